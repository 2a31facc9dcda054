"""Attention within the shifted windows of a Swin transformer, in plain PyTorch."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["HEAD_WIDTH", "MASKED", "backward", "naive", "window_attention"]

HEAD_WIDTH = 32
"""Channels of a head that the kernel takes, which are those of every published Swin."""

MASKED = -100.0
"""What is added to the score of a pair that must not meet; networks were trained with it, so it is not infinite."""

Pair = tuple[int, int]


def window_attention(
    qkv: Tensor, table: Tensor, padding: Tensor, *, heads: int, window: Pair, shift: Pair = (0, 0)
) -> Tensor:
    """Let the tokens of every window attend to each other.

    Args:
        qkv: [B, Y, X, 3C], queries, keys and values one after the other, each by head.
        table: [(2 * window_y - 1) * (2 * window_x - 1), H], relative position bias.
        padding: [3C], what `qkv` is at tokens that pad the map to a multiple of the window.
        heads: H; C is a multiple.
        window: rows and columns of a window.
        shift: by which the windows lie further down and right; what leaves the map enters it on the other side.

    Returns:
        [B, Y, X, C].
    """
    q, k, v = _split(_windows(qkv, padding, window=window, shift=shift), heads)
    mixed = _attention(q, k, table, shape=qkv.shape, window=window, shift=shift) @ v
    return _places(mixed.transpose(1, 2).flatten(2), shape=qkv.shape, window=window, shift=shift)


def backward(
    qkv: Tensor, table: Tensor, padding: Tensor, gradient: Tensor, *, heads: int, window: Pair, shift: Pair
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of `window_attention`; the attention is computed again.

    Args:
        qkv: [B, Y, X, 3C].
        table: [(2 * window_y - 1) * (2 * window_x - 1), H].
        padding: [3C].
        gradient: of the result, [B, Y, X, C].
        heads: H.
        window: rows and columns of a window.
        shift: of the windows.

    Returns:
        Gradients of `qkv`, `table` and `padding`.
    """
    q, k, v = _split(_windows(qkv, padding, window=window, shift=shift), heads)
    weight = _attention(q, k, table, shape=qkv.shape, window=window, shift=shift)  # [B * windows, H, N, N]
    nothing = gradient.new_zeros(gradient.shape[-1])
    arrived = _windows(gradient, nothing, window=window, shift=shift)
    arrived = arrived.reshape(*arrived.shape[:2], heads, -1).transpose(1, 2)  # [B * windows, H, N, D]
    to_v = weight.transpose(-2, -1) @ arrived
    to_weight = arrived @ v.transpose(-2, -1)
    to_score = weight * (to_weight - (weight * to_weight).sum(-1, keepdim=True))
    scale = q.shape[-1] ** -0.5
    to_q, to_k = to_score @ k * scale, to_score.transpose(-2, -1) @ q * scale
    parts = torch.stack((to_q, to_k, to_v)).permute(1, 3, 0, 2, 4).flatten(2)  # [B * windows, N, 3C]
    to_qkv, to_padding = _sum_padding(parts, shape=qkv.shape, window=window, shift=shift)
    pairs = to_score.sum(0, dtype=torch.promote_types(table.dtype, torch.float32)).flatten(1).t()
    to_table = pairs.new_zeros(table.shape)
    # sorted and summed in order, not by atomics
    to_table.index_put_((_entries(window, device=table.device).flatten(),), pairs, accumulate=True)
    return to_qkv, to_table.to(table.dtype), to_padding


def _attention(q: Tensor, k: Tensor, table: Tensor, *, shape: torch.Size, window: Pair, shift: Pair) -> Tensor:
    """Weights [B * windows, H, N, N] of a window's tokens, of the dtype of `q`."""
    scores = q * q.shape[-1] ** -0.5 @ k.transpose(-2, -1)
    scores = scores + table[_entries(window, device=table.device)].permute(2, 0, 1)
    if any(shift):
        region = _regions(shape, window=window, shift=shift, device=q.device)  # [windows, N]
        apart = region[:, None, :, None] != region[:, None, None, :]
        by_map = scores.reshape(shape[0], -1, *scores.shape[1:])
        scores = (by_map + apart.to(scores.dtype) * MASKED).flatten(0, 1)
    weights: Tensor = scores.softmax(-1).to(q.dtype)
    return weights


def _entries(window: Pair, *, device: torch.device) -> Tensor:
    """Entry [N, N] of the table for a query and a key of a window."""
    WY, WX = window
    token = torch.arange(WY * WX, device=device)
    y, x = token // WX, token % WX
    return (y[:, None] - y + WY - 1) * (2 * WX - 1) + x[:, None] - x + WX - 1


def _regions(shape: torch.Size, *, window: Pair, shift: Pair, device: torch.device) -> Tensor:
    """Number [windows, N] of each token's region: what the shift brought together must not meet."""
    y, x = (
        (torch.arange(side, device=device) >= side - by).to(torch.int64)
        for side, by in zip(_padded(shape, window), shift, strict=True)
    )
    return _partition((2 * y[:, None] + x)[None, :, :, None], window)[..., 0]


def _padded(shape: torch.Size, window: Pair) -> Pair:
    """Rows and columns of a map with its padding."""
    rows, columns = (-(-side // of) * of for side, of in zip(shape[1:3], window, strict=True))
    return rows, columns


def _windows(rows: Tensor, padding: Tensor, *, window: Pair, shift: Pair) -> Tensor:
    """[B, Y, X, C] rolled, then padded, then cut into windows [B * windows, N, C]."""
    if any(shift):
        rows = rows.roll((-shift[0], -shift[1]), (1, 2))
    (B, Y, X, C), (to_y, to_x) = rows.shape, _padded(rows.shape, window)
    if to_y > Y:
        rows = torch.cat((rows, padding.expand(B, to_y - Y, X, C)), 1)
    if to_x > X:
        rows = torch.cat((rows, padding.expand(B, to_y, to_x - X, C)), 2)
    return _partition(rows, window)


def _partition(rows: Tensor, window: Pair) -> Tensor:
    """[B, Y, X, C] of whole windows to [B * windows, N, C]."""
    (B, Y, X, C), (WY, WX) = rows.shape, window
    cut = rows.reshape(B, Y // WY, WY, X // WX, WX, C).transpose(2, 3)
    return cut.reshape(-1, WY * WX, C)


def _merge(parts: Tensor, *, shape: torch.Size, window: Pair) -> Tensor:
    """Windows [B * windows, N, C] to maps [B, padded Y, padded X, C]."""
    B, (Y, X), (WY, WX) = shape[0], _padded(shape, window), window
    cut = parts.reshape(B, Y // WY, X // WX, WY, WX, -1).transpose(2, 3)
    return cut.reshape(B, Y, X, -1)


def _places(parts: Tensor, *, shape: torch.Size, window: Pair, shift: Pair) -> Tensor:
    """Windows [B * windows, N, C] to where they came from, [B, Y, X, C]."""
    rows = _merge(parts, shape=shape, window=window)[:, : shape[1], : shape[2]]
    return rows.roll(shift, (1, 2)) if any(shift) else rows.contiguous()


def _sum_padding(parts: Tensor, *, shape: torch.Size, window: Pair, shift: Pair) -> tuple[Tensor, Tensor]:
    """Gradients of windows' tokens [B * windows, N, C] to those of the map and of what pads it."""
    below = _merge(parts, shape=shape, window=window)[:, shape[1] :].flatten(0, 2)
    beside = _merge(parts, shape=shape, window=window)[:, : shape[1], shape[2] :].flatten(0, 2)
    return _places(parts, shape=shape, window=window, shift=shift), below.sum(0) + beside.sum(0)


def _split(parts: Tensor, heads: int) -> tuple[Tensor, Tensor, Tensor]:
    """Windows [B * windows, N, 3C] to queries, keys and values [B * windows, H, N, D]."""
    q, k, v = parts.reshape(*parts.shape[:2], 3, heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
    return q, k, v


def naive(qkv: Tensor, table: Tensor, padding: Tensor, *, heads: int, window: Pair, shift: Pair) -> Tensor:
    """The same, one token of one window after the other."""
    B, Y, X, C = *qkv.shape[:3], qkv.shape[3] // 3
    (WY, WX), (to_y, to_x), D = window, _padded(qkv.shape, window), C // heads
    out = qkv.new_zeros(B, Y, X, C)

    def row(b: int, y: int, x: int) -> Tensor:
        return qkv[b, (y + shift[0]) % Y, (x + shift[1]) % X] if y < Y and x < X else padding

    def region(y: int, x: int) -> Pair:
        return int(y >= to_y - shift[0]), int(x >= to_x - shift[1])

    for b in range(B):
        for y, x in ((y, x) for y in range(Y) for x in range(X)):
            # the rolled map's token (y, x), and its window's
            tokens = [(y // WY * WY + i, x // WX * WX + j) for i in range(WY) for j in range(WX)]
            for h in range(heads):
                q, k, v = (slice((part * heads + h) * D, (part * heads + h + 1) * D) for part in range(3))
                scores = []
                for to in tokens:
                    bias = table[(y - to[0] + WY - 1) * (2 * WX - 1) + x - to[1] + WX - 1, h]
                    score = row(b, y, x)[q] @ row(b, *to)[k] * D**-0.5 + bias
                    scores.append(score if region(y, x) == region(*to) else score + MASKED)
                weights = torch.stack(scores).softmax(0)
                mixed = sum(weight * row(b, *to)[v] for weight, to in zip(weights, tokens, strict=True))
                out[b, (y + shift[0]) % Y, (x + shift[1]) % X, h * D : (h + 1) * D] = mixed
    return out
