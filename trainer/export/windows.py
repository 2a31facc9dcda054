"""The blocks of a Swin stage as they are exported: the same numbers, from operations that compilers fuse.

timm rolls a map, pads it, cuts it into windows and undoes all three behind the attention; it adds the mask of shifted
windows to scores in an axis of its own, behind which OpenVINO fuses nothing. Here

- tokens go into windows, and out of them, by one gather of whole rows. Where windows divide the map, tokens stay in the
  order of windows from block to block, and one gather takes them from plain to shifted windows;
- where they do not, queries, keys and values are made of the map's own tokens and of one row of zeros, in place of all
  with which timm pads. Nothing is multiplied for padding but scores: at 512 px a twelfth of Swin-B's products;
- queries, keys and values are three products, each followed by the transposition that a fused attention takes in, and
  the queries' scale is in their weights;
- scores take a bias [heads, N, N] and a mask [windows, 1, N, N] as two sums in four axes. Both are made in the graph,
  of timm's table and of a number for every token: compilers fold them, and a plan holds no mask for every block.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from timm.models.swin_transformer import SwinTransformerBlock, WindowAttention
from torch import Tensor, nn
from torch.nn import functional as F

from ...kernels.window_attention.reference import MASKED

__all__ = ["WindowBlocks"]

Pair = tuple[int, int]


class WindowBlocks(nn.Module):
    """All blocks of one stage, for maps of the size to which they are fitted.

    Args:
        blocks: of timm, in evaluation mode, plain and shifted windows of one size in turns. Their weights are shared,
            but for those of queries, keys and values.
    """

    def __init__(self, blocks: Sequence[SwinTransformerBlock]) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(map(_Block, blocks))
        shifts = [tuple(block.shift_size) for block in blocks]
        kinds = list(dict.fromkeys(shifts))
        self._kinds = [kinds.index(shift) for shift in shifts]
        self.windows = nn.ModuleList(_Windows(blocks[shifts.index(shift)]) for shift in kinds)
        self._ordered = not self._windows(0).padded
        for before, after in zip(self._kinds, self._kinds[1:], strict=False):
            if before != after and self._ordered:
                change = self._windows(before).back[self._windows(after).places.long()]
                self.register_buffer(f"change{before}{after}", change, persistent=False)

    def forward(self, maps: Tensor) -> Tensor:
        """Run the blocks on maps [B, Y, X, C]."""
        masks = [self._windows(kind).mask(maps.shape[0]) for kind in range(len(self.windows))]
        tokens = maps.flatten(1, 2)  # [B, Y X, C]
        before: int | None = None
        for kind, block in zip(self._kinds, self.blocks, strict=True):
            windows = self._windows(kind)
            if self._ordered:
                tokens = self._reordered(tokens, before, kind)
            tokens = block(tokens, windows, masks[kind], ordered=self._ordered)
            before = kind
        if self._ordered and before is not None:
            tokens = self._windows(before).out_of(tokens)
        return tokens.reshape(maps.shape)

    def _reordered(self, tokens: Tensor, before: int | None, kind: int) -> Tensor:
        """Tokens in the order of the windows of `kind`, from that of `before` or, where it is None, of the map."""
        if before is None:
            return self._windows(kind).into(tokens)
        return tokens if before == kind else tokens.index_select(1, getattr(self, f"change{before}{kind}"))

    def _windows(self, kind: int) -> _Windows:
        return cast(_Windows, self.windows[kind])


class _Windows(nn.Module):
    """How the tokens of a map [Y, X] lie in windows of N tokens, as in `block`.

    Attributes:
        tokens: N.
        padded: whether some places of windows hold none of the map's tokens.
        places: [windows N] the map's token at each place; Y X where there is none.
        back: [Y X] the place of each token.
    """

    places: Tensor
    back: Tensor
    entries: Tensor
    regions: Tensor | None

    def __init__(self, block: SwinTransformerBlock) -> None:
        super().__init__()
        places = _places(block)
        rows, columns = cast(Pair, block.input_resolution)
        count = rows * columns
        real = (places < count).nonzero().flatten()
        back = torch.empty(count, dtype=torch.int64)
        back[places[real]] = real
        self.tokens: int = block.window_size[0] * block.window_size[1]
        self.padded = len(places) > count
        self._as_they_are = torch.equal(places, torch.arange(count))
        masked = cast("Tensor | None", block.attn_mask)  # [windows, N, N]
        # tokens that may meet have the first of them in common
        regions = None if masked is None else (masked == 0).int().argmax(-1).int()
        buffers = {
            "places": places.int(),
            "back": back.int(),
            "entries": cast(Tensor, block.attn.relative_position_index).flatten().int(),
            "regions": regions,
        }
        for name, buffer in buffers.items():
            self.register_buffer(name, buffer, persistent=False)

    def into(self, tokens: Tensor) -> Tensor:
        """Rows [B, Y X (and one of padding), C] to the places of windows [B, windows N, C]."""
        return tokens if self._as_they_are else tokens.index_select(1, self.places)

    def out_of(self, tokens: Tensor) -> Tensor:
        """Rows [B, windows N, C] to the map's order [B, Y X, C]."""
        return tokens if self._as_they_are else tokens.index_select(1, self.back)

    def mask(self, batch: int) -> Tensor | None:
        """What is added to scores of tokens that the shift brought together, [batch windows, 1, N, N]."""
        if self.regions is None:
            return None
        apart = self.regions[:, None, :, None] != self.regions[:, None, None, :]
        return torch.where(apart, MASKED, 0.0).repeat(batch, 1, 1, 1)


class _Block(nn.Module):
    """One block of timm on tokens [B, Y X, C]."""

    def __init__(self, block: SwinTransformerBlock) -> None:
        super().__init__()
        attention: WindowAttention = block.attn
        self.norm1, self.norm2, self.mlp = block.norm1, block.norm2, block.mlp
        self.query, self.key, self.value = _products(attention)
        self.table, self.proj = attention.relative_position_bias_table, attention.proj
        self._heads: int = attention.num_heads

    def forward(self, tokens: Tensor, windows: _Windows, mask: Tensor | None, *, ordered: bool) -> Tensor:
        """Run the block on tokens in the order of windows, or of the map where not `ordered`."""
        normal: Tensor = self.norm1(tokens)
        tokens = tokens + self.proj(self._mixed(normal, windows, mask, ordered=ordered))
        result: Tensor = tokens + self.mlp(self.norm2(tokens))
        return result

    def _mixed(self, normal: Tensor, windows: _Windows, mask: Tensor | None, *, ordered: bool) -> Tensor:
        B, N = normal.shape[0], windows.tokens
        if windows.padded:
            normal = F.pad(normal, (0, 0, 0, 1))
        parts = [part(normal) for part in (self.query, self.key, self.value)]
        if not ordered:
            parts = [windows.into(part) for part in parts]
        heads = (part.reshape(-1, N, self._heads, part.shape[-1] // self._heads) for part in parts)
        q, k, v = (part.transpose(1, 2) for part in heads)  # [B windows, H, N, D]
        bias = self.table.index_select(0, windows.entries).view(N, N, -1).permute(2, 0, 1)
        scores = q @ k.transpose(-2, -1) + bias
        if mask is not None:
            scores = scores + mask.to(scores.dtype)
        mixed = (scores.softmax(-1) @ v).transpose(1, 2).reshape(B, -1, self.proj.in_features)
        return mixed if ordered else windows.out_of(mixed)


def _products(attention: WindowAttention) -> tuple[nn.Linear, ...]:
    """Queries, already scaled, keys and values, each a layer of its own."""
    weights = attention.qkv.weight.detach().chunk(3)
    biases = (None,) * 3 if attention.qkv.bias is None else attention.qkv.bias.detach().chunk(3)
    made = []
    for weight, bias, scale in zip(weights, biases, (attention.scale, 1.0, 1.0), strict=True):
        layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
        layer.weight = nn.Parameter(weight * scale)
        if bias is not None:
            layer.bias = nn.Parameter(bias * scale)
        made.append(layer)
    return tuple(made)


def _places(block: SwinTransformerBlock) -> Tensor:
    """The map's token [windows N] that lies at each place; the number of its tokens where none does."""
    (Y, X), (WY, WX) = cast(Pair, block.input_resolution), block.window_size
    tokens = torch.arange(Y * X).view(Y, X).roll([-by for by in block.shift_size], (0, 1))
    tokens = F.pad(tokens, (0, -X % WX, 0, -Y % WY), value=Y * X)
    rows, columns = tokens.shape
    return tokens.view(rows // WY, WY, columns // WX, WX).transpose(1, 2).flatten()
