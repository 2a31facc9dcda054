"""The custom op `uperfuse::temporal_aggregate`: checks, launch, gradients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ...engine.launching import AGGREGATED_MAPS, aggregate_limit, aggregate_request
from .. import dispatch
from ..launch import dtype_name, launch
from ..linear import resize_weights
from ..spec import Variant
from . import reference

__all__ = ["temporal_aggregate"]


def temporal_aggregate(maps: Sequence[Tensor], attention: Tensor) -> list[Tensor]:
    """Sum maps over dates; head h of the attention weighs the h-th share of the channels.

    On CUDA one kernel sums all maps, reading each once; elsewhere the plain-PyTorch reference runs. Maps that lie
    channels last in memory are read in place.

    Args:
        maps: [B, T, C_i, Y_i, X_i] each, finite; C_i is a multiple of H; on CUDA both are powers of two.
        attention: [B, H, T, Y, X], zero on masked dates; resized bilinearly (half-pixel centres) where a map's size is
            another. Of the maps' dtype.

    Returns:
        [B, C_i, Y_i, X_i] each; zero with T = 0.

    Raises:
        ValueError: shapes that do not belong together, or that the kernel does not take.
        TypeError: dtypes that differ, or that the kernel does not take.

    Source: Sainte Fare Garnot and Landrieu, "Panoptic Segmentation of Satellite Image Time Series with
    Convolutional Temporal Attention Networks", ICCV 2021, section 3.3.
    """
    _check(maps, attention)
    if not dispatch.fused(attention):
        return reference.temporal_aggregate(maps, attention)
    limit = aggregate_limit(heads=attention.shape[1], channels=[features.shape[2] for features in maps])
    if limit:
        raise ValueError(f"temporal_aggregate: {limit}; use uperfuse.kernels.disable()")
    rows = [features.permute(0, 1, 3, 4, 2).contiguous() for features in maps]
    sums: list[Tensor] = torch.ops.uperfuse.temporal_aggregate(rows, attention.permute(0, 2, 3, 4, 1).contiguous())
    return [each.permute(0, 3, 1, 2) for each in sums]


def _run(maps: Sequence[Tensor], attention: Tensor) -> list[Tensor]:
    """[B, T, Y_i, X_i, C_i] each and [B, T, Y, X, H] to [B, Y_i, X_i, C_i] each."""
    from .kernel import FORWARD

    sums: list[Tensor] = _empty_sums(maps, attention)
    B, T, YA, XA, H = attention.shape
    for start in range(0, len(maps), AGGREGATED_MAPS):
        some, to = maps[start : start + AGGREGATED_MAPS], sums[start : start + AGGREGATED_MAPS]
        sizes = [tuple(features.shape[2:4]) for features in some] + [(0, 0)] * (AGGREGATED_MAPS - len(some))
        resized = any(size != (YA, XA) for size in sizes[: len(some)])
        channels = [features.shape[-1] for features in some]
        request = aggregate_request(heads=H, channels=channels, dtype=dtype_name(attention), resized=resized)
        arguments: dict[str, Any] = {"attention": attention, "B": B, "T": T, "YA": YA, "XA": XA}
        arguments |= _numbered("features", some) | _numbered("out", to)
        arguments |= {f"{axis}{i}": size[k] for i, size in enumerate(sizes) for k, axis in enumerate("YX")}
        launch(FORWARD, variant=Variant.of(request), arguments=arguments)
    return sums


_forward = torch.library.custom_op("uperfuse::temporal_aggregate", _run, mutates_args=(), device_types="cuda")


@_forward.register_kernel("cpu")
def _(maps: Sequence[Tensor], attention: Tensor) -> list[Tensor]:
    if dispatch.interpreting():
        return _run(maps, attention)
    sums = reference.temporal_aggregate([_dates_first(each) for each in maps], _heads_first(attention))
    return [each.permute(0, 2, 3, 1).contiguous() for each in sums]


@_forward.register_fake
def _empty_sums(maps: Sequence[Tensor], attention: Tensor) -> list[Tensor]:
    return [features.new_empty(features.shape[0], *features.shape[2:]) for features in maps]


def _run_backward(maps: Sequence[Tensor], attention: Tensor, gradients: Sequence[Tensor]) -> list[Tensor]:
    """Gradients of the maps, all of the attention's size, and last of the attention."""
    from .kernel import BACKWARD

    *to_maps, total = _empty_gradients(maps, attention, gradients)
    B, T, YA, XA, H = attention.shape
    for start in range(0, len(maps), AGGREGATED_MAPS):
        some, to = maps[start : start + AGGREGATED_MAPS], to_maps[start : start + AGGREGATED_MAPS]
        part = torch.empty_like(total) if start else total
        variant = Variant({"T": dtype_name(attention)}, {"H": H, **_channels(some)})
        arguments: dict[str, Any] = {"attention": attention, "to_attention": part, "B": B, "T": T, "N": YA * XA}
        arguments |= _numbered("features", some) | _numbered("to_features", to)
        arguments |= _numbered("gradient", gradients[start : start + AGGREGATED_MAPS])
        launch(BACKWARD, variant=variant, arguments=arguments)
        if start:
            total += part
    return [*to_maps, total]


_backward = torch.library.custom_op(
    "uperfuse::temporal_aggregate_backward", _run_backward, mutates_args=(), device_types="cuda"
)


@_backward.register_kernel("cpu")
def _(maps: Sequence[Tensor], attention: Tensor, gradients: Sequence[Tensor]) -> list[Tensor]:
    if dispatch.interpreting():
        return _run_backward(maps, attention, gradients)
    to_maps, to_attention = reference.backward(
        [_dates_first(each) for each in maps],
        _heads_first(attention),
        [each.permute(0, 3, 1, 2) for each in gradients],
    )
    rows = [each.permute(0, 1, 3, 4, 2).contiguous() for each in to_maps]
    return [*rows, to_attention.permute(0, 2, 3, 4, 1).contiguous()]


@_backward.register_fake
def _empty_gradients(maps: Sequence[Tensor], attention: Tensor, gradients: Sequence[Tensor]) -> list[Tensor]:
    return [torch.empty_like(each) for each in (*maps, attention)]


def _remember(ctx: Any, inputs: tuple[Any, ...], output: list[Tensor]) -> None:
    maps, attention = inputs
    ctx.save_for_backward(*maps, attention)


def _differentiate(ctx: Any, gradients: list[Tensor]) -> tuple[list[Tensor], Tensor]:
    *maps, attention = ctx.saved_tensors
    gradients = [each.contiguous() for each in gradients]
    if all(features.shape[2:4] == attention.shape[2:4] for features in maps):
        *to_maps, to_attention = torch.ops.uperfuse.temporal_aggregate_backward(maps, attention, gradients)
        return to_maps, to_attention
    return _differentiate_resized(maps, attention, gradients)


def _differentiate_resized(
    maps: list[Tensor], attention: Tensor, gradients: list[Tensor]
) -> tuple[list[Tensor], Tensor]:
    """Maps of other sizes, one by one: with the attention at the map's size, then back to its own."""
    to_maps = []
    to_attention = torch.zeros_like(attention)
    for features, gradient in zip(maps, gradients, strict=True):
        rows, columns = (resize_weights(attention.shape[axis], features.shape[axis], like=attention) for axis in (2, 3))
        there = torch.einsum("btyxh,vy,wx->btvwh", attention, rows, columns).contiguous()
        to_map, part = torch.ops.uperfuse.temporal_aggregate_backward([features], there, [gradient])
        to_maps.append(to_map)
        to_attention = to_attention + torch.einsum("btvwh,vy,wx->btyxh", part, rows, columns)
    return to_maps, to_attention


_forward.register_autograd(_differentiate, setup_context=_remember)


def _check(maps: Sequence[Tensor], attention: Tensor) -> None:
    B, H, T = attention.shape[:3]
    for features in maps:
        if features.dim() != 5 or features.shape[:2] != (B, T) or features.shape[2] % H:
            raise ValueError(
                f"temporal_aggregate: map is {list(features.shape)}, expected [{B}, {T}, a multiple of {H}, Y, X]; "
                "give maps of the attention's samples, dates and heads"
            )
        if features.dtype != attention.dtype:
            raise TypeError(
                f"temporal_aggregate: map is {features.dtype}, expected the attention's {attention.dtype}; convert it"
            )


def _channels(maps: Sequence[Tensor]) -> dict[str, int]:
    return {f"C{i}": maps[i].shape[-1] if i < len(maps) else 0 for i in range(AGGREGATED_MAPS)}


def _numbered(name: str, tensors: Sequence[Tensor]) -> dict[str, Tensor]:
    """`name0`, `name1` ...; places that are left over get a tensor without elements."""
    none = tensors[0].new_empty(0)
    return {f"{name}{i}": tensors[i] if i < len(tensors) else none for i in range(AGGREGATED_MAPS)}


def _dates_first(rows: Tensor) -> Tensor:
    """[B, T, Y, X, C] as [B, T, C, Y, X]."""
    return rows.permute(0, 1, 4, 2, 3)


def _heads_first(rows: Tensor) -> Tensor:
    """[B, T, Y, X, H] as [B, H, T, Y, X]."""
    return rows.permute(0, 4, 1, 2, 3)
