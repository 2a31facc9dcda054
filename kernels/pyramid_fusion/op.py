"""The custom op `uperfuse::pyramid_fusion`: checks, launch, gradients."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from ...engine.launching import fusion_request
from .. import dispatch
from ..launch import dtype_name, launch
from ..spec import Variant
from . import reference

__all__ = ["project_and_fuse", "pyramid_fusion"]


def pyramid_fusion(maps: Sequence[Tensor], *, size: tuple[int, int]) -> Tensor:
    """Resize every map bilinearly (half-pixel centres) and add them up.

    A 1 x 1 convolution of the concatenation of resized maps equals this sum of maps that were projected at their
    own resolution: bilinear weights sum to one and act on every channel alike. On CUDA one kernel adds all maps without
    storing a resized one; elsewhere the plain-PyTorch reference runs.

    Args:
        maps: [B or 1, C, Y_i, X_i] each, finite; a batch of one is added to every sample.
        size: rows and columns of the result.

    Returns:
        [B, C, *size].

    Raises:
        ValueError: shapes that do not belong together.
        TypeError: dtypes that differ, or that the kernel does not take.

    Example:
        >>> pyramid_fusion([torch.ones(1, 2, 4, 6), torch.ones(1, 2, 2, 3)], size=(4, 6)).mean()
        tensor(2.)
    """
    _check(maps, batch=None)
    nothing_to_add = all(map(_is_constant, maps)) or (len(maps) == 1 and maps[0].shape[-2:] == size)
    if nothing_to_add or not dispatch.fused(maps[0]):
        return reference.pyramid_fusion(maps, size=size)
    return _fuse(maps, base=None, weight=None, bias=None, size=size)


def project_and_fuse(
    base: Tensor, *, weight: Tensor, bias: Tensor | None = None, maps: Sequence[Tensor] = ()
) -> Tensor:
    """Project a map with a 1 x 1 convolution and add others to it, resized to its size.

    This is `pyramid_fusion([conv2d(base, weight, bias), *maps])` as one kernel on CUDA: a product on tensor cores, to
    which the other maps are added before it is stored.

    Args:
        base: [B, C_in, Y, X], finite.
        weight: [C, C_in, 1, 1].
        bias: [C].
        maps: [B or 1, C, Y_i, X_i] each, finite, already projected; a batch of one is added to every sample.

    Returns:
        [B, C, Y, X]. Under autocast of its dtype, as a convolution's.

    Raises:
        ValueError: shapes that do not belong together.
        TypeError: dtypes that differ, or that the kernel does not take.

    Example:
        >>> base, coarse = torch.ones(1, 3, 4, 6), torch.ones(1, 2, 2, 3)
        >>> fused = project_and_fuse(base, weight=torch.ones(2, 3, 1, 1), maps=[coarse])
        >>> fused.shape, fused.mean()
        (torch.Size([1, 2, 4, 6]), tensor(4.))
    """
    if weight.dim() != 4 or weight.shape[1:] != (base.shape[1], 1, 1):
        raise ValueError(
            f"project_and_fuse: weight is {list(weight.shape)}, expected [C, {base.shape[1]}, 1, 1]; "
            "give the 1 x 1 convolution of the base"
        )
    _check(maps, batch=base.shape[0], channels=weight.shape[0])
    if not dispatch.fused(base):
        return reference.project_and_fuse(base, weight=weight, bias=bias, maps=maps)
    return _fuse(maps, base=base, weight=weight, bias=bias, size=(base.shape[-2], base.shape[-1]))


def _fuse(
    maps: Sequence[Tensor], *, base: Tensor | None, weight: Tensor | None, bias: Tensor | None, size: tuple[int, int]
) -> Tensor:
    """Bring everything into the kernel's form; what is the same at every pixel of every sample goes into the bias."""
    dtype = _autocast_dtype(maps[0] if base is None else base)
    for each in filter(_is_constant, maps):
        vector = each.flatten().float()
        bias = vector if bias is None else bias.float() + vector
    fused: Tensor = torch.ops.uperfuse.pyramid_fusion(
        [_rows(each, dtype) for each in maps if not _is_constant(each)],
        None if base is None else _rows(base, dtype),
        None if weight is None else _cast(weight.flatten(1), dtype),
        None if bias is None else bias.float().contiguous(),
        size,
    )
    return fused.permute(0, 3, 1, 2)


def _autocast_dtype(tensor: Tensor) -> torch.dtype | None:
    kind = tensor.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else None


def _rows(each: Tensor, dtype: torch.dtype | None) -> Tensor:
    """[B, C, Y, X] as [B, Y, X, C]; no copy where it lies so."""
    return _cast(each.permute(0, 2, 3, 1), dtype)


def _cast(tensor: Tensor, dtype: torch.dtype | None) -> Tensor:
    return (tensor if dtype is None else tensor.to(dtype)).contiguous()


def _is_constant(each: Tensor) -> bool:
    return each.shape[0] == 1 and each.shape[-2:] == (1, 1)


def _run(
    maps: Sequence[Tensor], base: Tensor | None, weight: Tensor | None, bias: Tensor | None, size: Sequence[int]
) -> Tensor:
    """Fuse [B or 1, Y_i, X_i, C] each, and base [B, Y, X, C_in], to [B, Y, X, C]."""
    from .kernel import FORWARD, SAME, SAMPLED

    out: Tensor = _empty(maps, base, weight, bias, size)
    B, Y, X, COUT = out.shape
    none, no_bias = out.new_empty(0), out.new_empty(0, dtype=torch.float32)
    for start, (same, sampled) in enumerate(_shares(maps, size=(Y, X), same_places=SAME, sampled_places=SAMPLED)):
        if start:
            # the sum so far; a block reads its own part before it writes it
            same, base, weight, bias = [out, *same], None, None, None
        CIN = None if base is None else base.shape[-1]
        request = fusion_request(channels=COUT, dtype=dtype_name(out), base_channels=CIN)
        arguments: dict[str, Any] = {
            "base": none if base is None else base,
            "weight": none if weight is None else weight,
            "bias": no_bias if bias is None else bias,
            "out": out,
        }
        arguments |= {"B": B, "Y": Y, "X": X, "CIN": CIN or 0, "COUT": COUT, "MAPS": len(sampled)}
        arguments["BIASES"] = 0 if bias is None else COUT
        for name, tensors, places in (("same", same, SAME), ("map", sampled, SAMPLED)):
            arguments |= {f"{name}{i}": tensors[i] if i < len(tensors) else none for i in range(places)}
        arguments |= {f"BS{i}": same[i].shape[0] if i < len(same) else 0 for i in range(SAME)}
        for i in range(SAMPLED):
            shape = sampled[i].shape[:3] if i < len(sampled) else (0, 0, 0)
            arguments |= {f"{axis}{i}": extent for axis, extent in zip("BYX", shape, strict=True)}
        launch(FORWARD, variant=Variant.of(request), arguments=arguments)
    return out


def _shares(
    maps: Sequence[Tensor], *, size: tuple[int, int], same_places: int, sampled_places: int
) -> Iterator[tuple[list[Tensor], list[Tensor]]]:
    """Maps of each launch: those of the output's size, and the others.

    All launches but the first leave one place for the sum so far.
    """
    same = [each for each in maps if tuple(each.shape[1:3]) == size]
    sampled = [each for each in maps if tuple(each.shape[1:3]) != size]
    places = same_places
    while True:
        yield same[:places], sampled[:sampled_places]
        same, sampled = same[places:], sampled[sampled_places:]
        if not same and not sampled:
            return
        places = same_places - 1


_forward = torch.library.custom_op("uperfuse::pyramid_fusion", _run, mutates_args=(), device_types="cuda")


@_forward.register_kernel("cpu")
def _(
    maps: Sequence[Tensor], base: Tensor | None, weight: Tensor | None, bias: Tensor | None, size: Sequence[int]
) -> Tensor:
    if dispatch.interpreting():
        return _run(maps, base, weight, bias, size)
    parts = [each.permute(0, 3, 1, 2) for each in maps]
    if base is not None and weight is not None:
        parts.append(torch.nn.functional.conv2d(base.permute(0, 3, 1, 2), weight[:, :, None, None]))
    if bias is not None:
        parts.append(bias.to(parts[0].dtype)[None, :, None, None])
    fused = reference.pyramid_fusion(parts, size=(size[0], size[1]))
    return fused.permute(0, 2, 3, 1).clone(memory_format=torch.contiguous_format)


@_forward.register_fake
def _empty(
    maps: Sequence[Tensor], base: Tensor | None, weight: Tensor | None, bias: Tensor | None, size: Sequence[int]
) -> Tensor:
    if base is not None and weight is not None:
        shape = (*base.shape[:3], weight.shape[0])
    else:
        shape = (max(each.shape[0] for each in maps), *size, maps[0].shape[-1])
    return (maps[0] if base is None else base).new_empty(shape)


def _run_backward(gradient: Tensor, batch: int, rows: int, columns: int) -> Tensor:
    """Gradient [batch, rows, columns, C] of a map, from that of the sum [B, Y, X, C]."""
    from .kernel import BACKWARD

    to_map: Tensor = _empty_gradient(gradient, batch, rows, columns)
    B, Y, X, C = gradient.shape
    variant = Variant({"T": dtype_name(gradient)}, {"ALIGNED": int(C % 16 == 0)})
    arguments: dict[str, Any] = {"gradient": gradient, "to_map": to_map, "B": B, "Y": Y, "X": X, "C": C}
    launch(BACKWARD, variant=variant, arguments=arguments | {"BI": batch, "YI": rows, "XI": columns})
    return to_map


_backward = torch.library.custom_op(
    "uperfuse::pyramid_fusion_backward", _run_backward, mutates_args=(), device_types="cuda"
)


@_backward.register_kernel("cpu")
def _(gradient: Tensor, batch: int, rows: int, columns: int) -> Tensor:
    if dispatch.interpreting():
        return _run_backward(gradient, batch, rows, columns)
    to_map = reference.backward(gradient.permute(0, 3, 1, 2), batch=batch, size=(rows, columns))
    return to_map.permute(0, 2, 3, 1).contiguous()


@_backward.register_fake
def _empty_gradient(gradient: Tensor, batch: int, rows: int, columns: int) -> Tensor:
    return gradient.new_empty((batch, rows, columns, gradient.shape[-1]))


def _remember(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    maps, base, weight, _, _ = inputs
    ctx.save_for_backward(base, weight)
    ctx.shapes = [each.shape for each in maps]


def _differentiate(ctx: Any, gradient: Tensor) -> tuple[Any, ...]:
    """The projection's gradients are products like any other; a map's is its resize, transposed."""
    base, weight = ctx.saved_tensors
    for_maps, for_base, for_weight, for_bias, _ = ctx.needs_input_grad
    gradient = gradient.contiguous()
    rows = gradient.flatten(0, 2)  # [B Y X, C]
    return (
        [
            _differentiate_map(gradient, shape) if needed else None
            for shape, needed in zip(ctx.shapes, for_maps, strict=True)
        ],
        (rows @ weight).view(base.shape) if for_base else None,
        rows.T @ base.flatten(0, 2) if for_weight else None,
        rows.sum(0, dtype=torch.float32) if for_bias else None,
        None,
    )


def _differentiate_map(gradient: Tensor, shape: torch.Size) -> Tensor:
    if shape[1:3] != gradient.shape[1:3]:
        to_map: Tensor = torch.ops.uperfuse.pyramid_fusion_backward(gradient, *shape[:3])
        return to_map
    return gradient if shape[0] == gradient.shape[0] else gradient.sum(0, keepdim=True)


_forward.register_autograd(_differentiate, setup_context=_remember)


def _check(maps: Sequence[Tensor], *, batch: int | None, channels: int | None = None) -> None:
    """Refuse maps that cannot be added."""
    assert maps or batch, "nothing to fuse"
    batch = batch or max(each.shape[0] for each in maps)
    channels = channels or maps[0].shape[1]
    for each in maps:
        if each.dim() != 4 or each.shape[0] not in (1, batch) or each.shape[1] != channels:
            raise ValueError(
                f"pyramid_fusion: map is {list(each.shape)}, expected [1 or {batch}, {channels}, Y, X]; "
                "give maps of the same samples, projected to the same channels"
            )
