"""The custom op `uperfuse::window_attention`: checks, launch, gradients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from .. import dispatch
from ..launch import dtype_name, launch
from ..spec import Variant
from . import reference
from .reference import HEAD_WIDTH

__all__ = ["LARGEST_WINDOW", "admits", "window_attention"]

LARGEST_WINDOW = 144
"""Most tokens of a window that the kernel takes: a program holds the keys and values of all."""


def admits(*, head_width: int, window: tuple[int, int]) -> bool:
    """Whether the kernel takes heads and windows of this size: heads of 32 channels, up to 144 tokens.

    Args:
        head_width: channels of a head.
        window: rows and columns of a window.
    """
    return head_width == HEAD_WIDTH and window[0] * window[1] <= LARGEST_WINDOW


def window_attention(
    qkv: Tensor,
    table: Tensor,
    padding: Tensor,
    *,
    heads: int,
    window: tuple[int, int],
    shift: tuple[int, int] = (0, 0),
) -> Tensor:
    """Let the tokens of every window attend to each other, as a block of a Swin transformer does.

    On CUDA a kernel reads every token where it lies and writes its result there; elsewhere the plain-PyTorch reference
    runs, which rolls, pads and cuts the map first. The windows of a shifted map lie `shift` further down and right.
    What leaves the map enters it on the other side, where tokens that were apart do not see each other. What pads the
    map to a multiple of the window is seen by all of its window.

    Args:
        qkv: [B, Y, X, 3C], queries, keys and values one after the other, each by head; float32, float16 or bfloat16.
        table: [(2 * window_y - 1) * (2 * window_x - 1), H], relative position bias, rows by distance in y, then in x.
        padding: [3C], what `qkv` is at tokens that pad the map: the bias of the layer that made it.
        heads: H; C is a multiple, on CUDA 32 H.
        window: rows and columns of a window; up to 144 tokens on CUDA.
        shift: rows and columns, each less than the window's.

    Returns:
        [B, Y, X, C], of the dtype of `qkv`.

    Raises:
        ValueError: shapes that do not belong together, or that the kernel does not take.
        TypeError: a dtype that the kernel does not take.

    Source: Liu et al., "Swin Transformer: Hierarchical Vision Transformer using Shifted Windows", ICCV 2021, section
    3.2.

    Example:
        >>> qkv, table, padding = torch.randn(1, 10, 9, 96), torch.zeros(169, 1), torch.zeros(96)
        >>> window_attention(qkv, table, padding, heads=1, window=(7, 7), shift=(3, 3)).shape
        torch.Size([1, 10, 9, 32])
    """
    _check(qkv, table, padding, heads=heads, window=window, shift=shift)
    if not dispatch.fused(qkv):
        return reference.window_attention(qkv, table, padding, heads=heads, window=window, shift=shift)
    head_width = qkv.shape[3] // 3 // heads
    if not admits(head_width=head_width, window=window):
        raise ValueError(
            f"window_attention: heads of {head_width} channels and windows of {window}, expected {HEAD_WIDTH} channels "
            f"and up to {LARGEST_WINDOW} tokens; run the reference inside `with disable()`"
        )
    result: Tensor = torch.ops.uperfuse.window_attention(
        qkv.contiguous(), table.t().float().contiguous(), padding.to(qkv.dtype).contiguous(), window, shift
    )
    return result


def _run(qkv: Tensor, table: Tensor, padding: Tensor, window: Sequence[int], shift: Sequence[int]) -> Tensor:
    """Rows [B, Y, X, 3C], a table [H, entries] and padding [3C] to [B, Y, X, C]."""
    from .kernel import FORWARD

    out: Tensor = _empty(qkv, table, padding, window, shift)
    B, Y, X, _ = qkv.shape
    variant = Variant({"T": dtype_name(qkv)}, {"WY": window[0], "WX": window[1]})
    arguments: dict[str, Any] = {"qkv": qkv, "table": table, "padding": padding, "out": out}
    arguments |= {"B": B, "Y": Y, "X": X, "H": table.shape[0], "SY": shift[0], "SX": shift[1]}
    launch(FORWARD, variant=variant, arguments=arguments)
    return out


_forward = torch.library.custom_op("uperfuse::window_attention", _run, mutates_args=(), device_types="cuda")


@_forward.register_kernel("cpu")
def _(qkv: Tensor, table: Tensor, padding: Tensor, window: Sequence[int], shift: Sequence[int]) -> Tensor:
    if dispatch.interpreting():
        return _run(qkv, table, padding, window, shift)
    return reference.window_attention(
        qkv, table.t(), padding, heads=table.shape[0], window=_pair(window), shift=_pair(shift)
    ).contiguous()


@_forward.register_fake
def _empty(qkv: Tensor, table: Tensor, padding: Tensor, window: Sequence[int], shift: Sequence[int]) -> Tensor:
    return qkv.new_empty(*qkv.shape[:3], qkv.shape[3] // 3)


@torch.library.custom_op("uperfuse::window_attention_backward", mutates_args=())
def _backward(
    qkv: Tensor, table: Tensor, padding: Tensor, gradient: Tensor, window: Sequence[int], shift: Sequence[int]
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of qkv, table and padding, in plain PyTorch on every device."""
    to_qkv, to_table, to_padding = reference.backward(
        qkv, table.t(), padding, gradient, heads=table.shape[0], window=_pair(window), shift=_pair(shift)
    )
    return to_qkv.contiguous(), to_table.t().contiguous(), to_padding


@_backward.register_fake
def _(
    qkv: Tensor, table: Tensor, padding: Tensor, gradient: Tensor, window: Sequence[int], shift: Sequence[int]
) -> tuple[Tensor, Tensor, Tensor]:
    return torch.empty_like(qkv), torch.empty_like(table), torch.empty_like(padding)


def _remember(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    *tensors, ctx.window, ctx.shift = inputs
    ctx.save_for_backward(*tensors)


def _differentiate(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
    gradients = torch.ops.uperfuse.window_attention_backward(
        *ctx.saved_tensors, gradient.contiguous(), ctx.window, ctx.shift
    )
    return *gradients, None, None


_forward.register_autograd(_differentiate, setup_context=_remember)


def _pair(numbers: Sequence[int]) -> tuple[int, int]:
    y, x = numbers
    return y, x


def _check(
    qkv: Tensor, table: Tensor, padding: Tensor, *, heads: int, window: tuple[int, int], shift: tuple[int, int]
) -> None:
    if qkv.dim() != 4 or qkv.shape[3] % (3 * heads) or 0 in qkv.shape[1:]:
        raise ValueError(
            f"window_attention: qkv is {list(qkv.shape)}, expected [B, Y, X, a multiple of {3 * heads}] with Y and X "
            "of at least 1; give queries, keys and values of every head"
        )
    entries = (2 * window[0] - 1) * (2 * window[1] - 1)
    if table.shape != (entries, heads):
        raise ValueError(
            f"window_attention: table is {list(table.shape)}, expected {[entries, heads]}; give the table of windows "
            f"of {window} and {heads} heads"
        )
    if padding.shape != qkv.shape[3:]:
        raise ValueError(
            f"window_attention: padding is {list(padding.shape)}, expected {list(qkv.shape[3:])}; give one value for "
            "each channel of qkv"
        )
    if any(not 0 <= by < side for by, side in zip(shift, window, strict=True)):
        raise ValueError(f"window_attention: shift is {shift}, expected 0 to less than {window}; shift by less")
