"""Triton kernels of `temporal_aggregate`, and what is declared of them."""

from __future__ import annotations

import triton
import triton.language as tl

from ...engine.launching import AGGREGATED_MAPS
from ..spec import Configuration, KernelSpec, Pointer, Scalar, Variant

__all__ = ["BACKWARD", "FORWARD"]


@triton.jit
def _spread(weight, P: tl.constexpr, S: tl.constexpr, H: tl.constexpr, C: tl.constexpr):
    """Weights per head [S, P, H] to weights per channel [S, P, C]."""
    wide = tl.broadcast_to(tl.reshape(weight, (S, P, H, 1)), (S, P, H, C // H))
    return tl.reshape(wide, (S, P, C))


@triton.jit
def _weights(attention, b, date, real, pixel, inside, T, N, H: tl.constexpr):
    """Weights [S, P, H] at the attention's own size."""
    row = ((b.to(tl.int64) * T + date[:, None]) * N + pixel[None, :])[:, :, None]  # [S, P, 1]
    keep = (real[:, None] & inside[None, :])[:, :, None]
    return tl.load(attention + row * H + tl.arange(0, H)[None, None, :], mask=keep, other=0.0).to(tl.float32)


@triton.jit
def _neighbours(index, size, source):
    """The two source places of a half-pixel-centred resize along one axis, and the weight of the second."""
    place = tl.maximum((index.to(tl.float32) + 0.5) * (source.to(tl.float32) / size.to(tl.float32)) - 0.5, 0.0)
    first = tl.minimum(place.to(tl.int32), source - 1)
    return first, tl.minimum(first + 1, source - 1), place - first.to(tl.float32)


@triton.jit
def _resized(attention, b, date, real, pixel, inside, T, YA, XA, Y, X, H: tl.constexpr):
    """Weights [S, P, H] of an attention [YA, XA] at pixels of a map [Y, X]."""
    y0, y1, fy = _neighbours(pixel // X, Y, YA)
    x0, x1, fx = _neighbours(pixel % X, X, XA)
    fy = fy[None, :, None]
    fx = fx[None, :, None]
    upper = _weights(attention, b, date, real, y0 * XA + x0, inside, T, YA * XA, H) * (1.0 - fx)
    upper += _weights(attention, b, date, real, y0 * XA + x1, inside, T, YA * XA, H) * fx
    lower = _weights(attention, b, date, real, y1 * XA + x0, inside, T, YA * XA, H) * (1.0 - fx)
    lower += _weights(attention, b, date, real, y1 * XA + x1, inside, T, YA * XA, H) * fx
    return upper * (1.0 - fy) + lower * fy


@triton.jit
def _place(b, date, pixel, T, N, C: tl.constexpr):
    """Offsets [S, P, C] into [B, T, N, C]."""
    row = ((b.to(tl.int64) * T + date[:, None]) * N + pixel[None, :])[:, :, None]
    return row * C + tl.arange(0, C)[None, None, :]


@triton.jit
def _add(total, features, weight, b, date, keep, pixel, T, N, C: tl.constexpr, H: tl.constexpr):
    """Adds S dates of one map [S, P, C] to its total [P, C]."""
    values = tl.load(features + _place(b, date, pixel, T, N, C), mask=keep, other=0.0).to(tl.float32)
    return total + tl.sum(values * _spread(weight, weight.shape[1], weight.shape[0], H, C), axis=0)


@triton.jit
def _store(out, total, b, pixel, inside, N, C: tl.constexpr):
    place = (b.to(tl.int64) * N + pixel)[:, None] * C + tl.arange(0, C)[None, :]
    tl.store(out + place, total.to(out.dtype.element_ty), mask=inside[:, None])


@triton.jit
def _one(features, out, attention, b, block, T, YA, XA, Y, X, C: tl.constexpr, H: tl.constexpr, P: tl.constexpr,
         S: tl.constexpr):  # fmt: skip
    """One block of pixels of one map whose size is not the attention's."""
    pixel = block * P + tl.arange(0, P)
    inside = pixel < Y * X
    total = tl.zeros((P, C), tl.float32)
    for start in range(0, T, S):
        date = start + tl.arange(0, S)
        real = date < T
        weight = _resized(attention, b, date, real, pixel, inside, T, YA, XA, Y, X, H)
        keep = (real[:, None] & inside[None, :])[:, :, None]
        total = _add(total, features, weight, b, date, keep, pixel, T, Y * X, C, H)
    _store(out, total, b, pixel, inside, Y * X, C)


@triton.jit(do_not_specialize=["B", "T", "YA", "XA", "Y0", "X0", "Y1", "X1", "Y2", "X2", "Y3", "X3"])
def temporal_aggregate(
    attention, features0, features1, features2, features3, out0, out1, out2, out3,
    B, T, YA, XA, Y0, X0, Y1, X1, Y2, X2, Y3, X3,
    H: tl.constexpr, C0: tl.constexpr, C1: tl.constexpr, C2: tl.constexpr, C3: tl.constexpr, RESIZED: tl.constexpr,
    P: tl.constexpr, S: tl.constexpr,
):  # fmt: skip
    """A block of P pixels of every map, S dates at a time."""
    block = tl.program_id(0)
    b = tl.program_id(1)
    if RESIZED:
        _one(features0, out0, attention, b, block, T, YA, XA, Y0, X0, C0, H, P, S)
        if C1 > 0:
            _one(features1, out1, attention, b, block, T, YA, XA, Y1, X1, C1, H, P, S)
        if C2 > 0:
            _one(features2, out2, attention, b, block, T, YA, XA, Y2, X2, C2, H, P, S)
        if C3 > 0:
            _one(features3, out3, attention, b, block, T, YA, XA, Y3, X3, C3, H, P, S)
    else:
        # one size: a date's weights are read once for all maps
        pixel = block * P + tl.arange(0, P)
        N = YA * XA
        inside = pixel < N
        total0 = tl.zeros((P, C0), tl.float32)
        if C1 > 0:
            total1 = tl.zeros((P, C1), tl.float32)
        if C2 > 0:
            total2 = tl.zeros((P, C2), tl.float32)
        if C3 > 0:
            total3 = tl.zeros((P, C3), tl.float32)
        for start in range(0, T, S):
            date = start + tl.arange(0, S)
            real = date < T
            weight = _weights(attention, b, date, real, pixel, inside, T, N, H)
            keep = (real[:, None] & inside[None, :])[:, :, None]
            total0 = _add(total0, features0, weight, b, date, keep, pixel, T, N, C0, H)
            if C1 > 0:
                total1 = _add(total1, features1, weight, b, date, keep, pixel, T, N, C1, H)
            if C2 > 0:
                total2 = _add(total2, features2, weight, b, date, keep, pixel, T, N, C2, H)
            if C3 > 0:
                total3 = _add(total3, features3, weight, b, date, keep, pixel, T, N, C3, H)
        _store(out0, total0, b, pixel, inside, N, C0)
        if C1 > 0:
            _store(out1, total1, b, pixel, inside, N, C1)
        if C2 > 0:
            _store(out2, total2, b, pixel, inside, N, C2)
        if C3 > 0:
            _store(out3, total3, b, pixel, inside, N, C3)


@triton.jit
def _gradients(weight, features, gradient, to, b, date, keep, pixel, inside, T, N, C: tl.constexpr, H: tl.constexpr,
               P: tl.constexpr, S: tl.constexpr):  # fmt: skip
    """Writes a map's gradient [S, P, C] and returns its part of the attention's [S, P, H]."""
    place = (b.to(tl.int64) * N + pixel)[:, None] * C + tl.arange(0, C)[None, :]
    arrived = tl.load(gradient + place, mask=inside[:, None], other=0.0).to(tl.float32)[None, :, :]  # [1, P, C]
    here = _place(b, date, pixel, T, N, C)
    tl.store(to + here, (arrived * _spread(weight, P, S, H, C)).to(to.dtype.element_ty), mask=keep)
    values = tl.load(features + here, mask=keep, other=0.0).to(tl.float32)
    return tl.sum(tl.reshape(values * arrived, (S, P, H, C // H)), axis=3)


@triton.jit(do_not_specialize=["B", "T", "N"])
def temporal_aggregate_backward(
    attention, features0, features1, features2, features3, gradient0, gradient1, gradient2, gradient3,
    to_attention, to_features0, to_features1, to_features2, to_features3,
    B, T, N,
    H: tl.constexpr, C0: tl.constexpr, C1: tl.constexpr, C2: tl.constexpr, C3: tl.constexpr,
    P: tl.constexpr, S: tl.constexpr,
):  # fmt: skip
    """Gradients of P pixels and S dates of every map, for maps of the attention's size."""
    pixel = tl.program_id(0) * P + tl.arange(0, P)
    date = tl.program_id(1) * S + tl.arange(0, S)
    b = tl.program_id(2)
    inside = pixel < N
    real = date < T
    keep = (real[:, None] & inside[None, :])[:, :, None]
    weight = _weights(attention, b, date, real, pixel, inside, T, N, H)
    total = _gradients(weight, features0, gradient0, to_features0, b, date, keep, pixel, inside, T, N, C0, H, P, S)
    if C1 > 0:
        total += _gradients(weight, features1, gradient1, to_features1, b, date, keep, pixel, inside, T, N, C1, H, P, S)
    if C2 > 0:
        total += _gradients(weight, features2, gradient2, to_features2, b, date, keep, pixel, inside, T, N, C2, H, P, S)
    if C3 > 0:
        total += _gradients(weight, features3, gradient3, to_features3, b, date, keep, pixel, inside, T, N, C3, H, P, S)
    here = _place(b, date, pixel, T, N, H)
    tl.store(to_attention + here, total.to(to_attention.dtype.element_ty), mask=keep)


def _configure(variant: Variant, capability: int) -> Configuration:
    """One pixel per program: a tile of 10 x 10 still has a hundred, and 32 dates of it keep enough loads in flight."""
    # left alone, the assembler for sm_100 spills some registers of this variant rather than give a thread 80
    registers = 80 if capability == 100 and variant.constants["RESIZED"] else None
    return Configuration({"P": 1, "S": 32}, warps=4, stages=1, registers=registers)


def _configure_backward(variant: Variant, capability: int) -> Configuration:
    """Pixels and dates both make programs here, so that two pixels may share a row of weights."""
    return Configuration({"P": 2, "S": 16}, warps=4, stages=1)


def _maps(name: str, dims: str, *, written: bool = False) -> list[Pointer]:
    return [
        Pointer(f"{name}{i}", "T", tuple(dims.replace("#", str(i)).split(", ")), written=written)
        for i in range(AGGREGATED_MAPS)
    ]


_MAP_SIZES = [Scalar(f"{axis}{i}") for i in range(AGGREGATED_MAPS) for axis in "YX"]
_BLOCKS = "max(" + ", ".join(f"cdiv(Y{i} * X{i}, P)" for i in range(AGGREGATED_MAPS)) + ")"
_UTAE = {"H": 16, "C0": 128, "C1": 64, "C2": 64, "C3": 0}
"""The skip maps of FLAIR-HUB's U-TAE."""

FORWARD = KernelSpec(
    name="temporal_aggregate",
    function=temporal_aggregate,
    arguments=(
        Pointer("attention", "T", ("B", "T", "YA * XA", "H")),
        *_maps("features", "B, T, Y# * X#, C#"),
        *_maps("out", "B, Y# * X#, C#", written=True),
        *map(Scalar, ("B", "T", "YA", "XA")),
        *_MAP_SIZES,
    ),
    grid=(_BLOCKS, "B"),
    variants=tuple(
        Variant({"T": dtype}, {**_UTAE, "RESIZED": resized}) for dtype in ("fp32", "fp16", "bf16") for resized in (0, 1)
    ),
    configure=_configure,
    admits={"T": ("fp32", "fp16", "bf16")},
)

BACKWARD = KernelSpec(
    name="temporal_aggregate_backward",
    function=temporal_aggregate_backward,
    arguments=(
        Pointer("attention", "T", ("B", "T", "N", "H")),
        *_maps("features", "B, T, N, C#"),
        *_maps("gradient", "B, N, C#"),
        Pointer("to_attention", "T", ("B", "T", "N", "H"), written=True),
        *_maps("to_features", "B, T, N, C#", written=True),
        *map(Scalar, ("B", "T", "N")),
    ),
    grid=("cdiv(N, P)", "cdiv(T, S)", "B"),
    variants=tuple(Variant({"T": dtype}, _UTAE) for dtype in ("fp32", "bf16")),
    configure=_configure_backward,
    admits={"T": ("fp32", "fp16", "bf16")},
)
