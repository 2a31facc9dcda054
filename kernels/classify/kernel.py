"""Triton kernel of `classify`, and what is declared of it."""

from __future__ import annotations

from collections.abc import Iterator

import triton
import triton.language as tl

from ...engine.launching import classify_room
from ..spec import Configuration, KernelSpec, Pointer, Scalar, Variant

__all__ = ["FORWARD"]

_LOG2_E = tl.constexpr(1.4426950408889634)
_VOID = tl.constexpr(255)


@triton.jit
def _neighbours(index, size, scale, centre):
    """The first of the two places along an axis of `size` that a resize reads, and the weight of the second.

    `centre` is 0 where corners are aligned and a half otherwise.
    """
    place = tl.maximum(scale * (index.to(tl.float32) + centre) - centre, 0.0)
    first = tl.minimum(place.to(tl.int32), size - 1)
    return first, place - first.to(tl.float32)


@triton.jit
def _axis(index, size0, scale0, centre0, size1, scale1, centre1, STEPS: tl.constexpr):
    """The first and last place that pixels `index` read along an axis of the logits, and the weights from the first.

    One resize reads two places. Of two resizes, each neighbour in the map between has two neighbours of its own; the
    first makes no axis shorter, so that they all lie within three places.
    """
    if STEPS == 1:
        first, share = _neighbours(index, size0, scale0, centre0)
        return first, tl.minimum(first + 1, size0 - 1), 1.0 - share, share, tl.zeros_like(share)
    near, share = _neighbours(index, size1, scale1, centre1)
    first, near_share = _neighbours(near, size0, scale0, centre0)
    second, far_share = _neighbours(tl.minimum(near + 1, size1 - 1), size0, scale0, centre0)
    apart = (second > first).to(tl.float32)
    far0 = share * (1.0 - far_share)
    far1 = share * far_share
    weight0 = (1.0 - share) * (1.0 - near_share) + (1.0 - apart) * far0
    weight1 = (1.0 - share) * near_share + apart * far0 + (1.0 - apart) * far1
    return first, tl.minimum(second + 1, size0 - 1), weight0, weight1, apart * far1


@triton.jit
def _finite(values):
    """Values in float32, NaN in place of infinities: beside finite ones those would vanish in the softmax."""
    values = values.to(tl.float32)
    return tl.where(tl.abs(values) < float("inf"), values, float("nan"))


@triton.jit
def _compare(value, k, best, label, total):
    """Takes in the logits of class k, in units of log 2: the best so far, its class, sum of 2^(value - best)."""
    distance = value - best
    smaller = tl.exp2(-tl.abs(distance))
    larger = distance > 0
    total = tl.where(larger, total * smaller + 1.0, total + smaller)
    return tl.maximum(best, value), tl.where(larger, k, label), total


@triton.jit
def _as_they_are(plane, K, N, X, y, x, inside, best, label, total):
    """Every class at the pixels y, x of logits that have the map's size."""
    place = y[:, None] * X + x[None, :]
    for k in range(K):
        value = _finite(tl.load(plane + place, mask=inside, other=0.0)) * _LOG2_E
        best, label, total = _compare(value, k, best, label, total)
        plane += N
    return label, total


@triton.jit
def _resized(
    plane, K, YL, XL, Y1, X1, Y, X, y, x, scale_y0, scale_x0, centre0, scale_y1, scale_x1, centre1, best, label, total,
    STEPS: tl.constexpr, SY: tl.constexpr, SX: tl.constexpr,
):  # fmt: skip
    """Every class at the pixels y, x of the map, from SY x SX logits that are read once per class."""
    TY: tl.constexpr = y.shape[0]
    TX: tl.constexpr = x.shape[0]
    first_y, last_y, y0, y1, y2 = _axis(tl.minimum(y, Y - 1), YL, scale_y0, centre0, Y1, scale_y1, centre1, STEPS)
    first_x, last_x, x0, x1, x2 = _axis(tl.minimum(x, X - 1), XL, scale_x0, centre0, X1, scale_x1, centre1, STEPS)
    top, left = tl.min(first_y, axis=0), tl.min(first_x, axis=0)
    bottom, right = tl.max(last_y, axis=0), tl.max(last_x, axis=0)
    source_y, source_x = top + tl.arange(0, SY), left + tl.arange(0, SX)
    keep = (source_y <= bottom)[:, None] & (source_x <= right)[None, :]
    place = source_y[:, None] * XL + source_x[None, :]
    column0 = tl.broadcast_to((first_x - left)[None, :], (SY, TX))
    column1 = tl.broadcast_to((tl.minimum(first_x + 1, right) - left)[None, :], (SY, TX))
    column2 = tl.broadcast_to((tl.minimum(first_x + 2, right) - left)[None, :], (SY, TX))
    row0 = tl.broadcast_to((first_y - top)[:, None], (TY, TX))
    row1 = tl.broadcast_to((tl.minimum(first_y + 1, bottom) - top)[:, None], (TY, TX))
    row2 = tl.broadcast_to((tl.minimum(first_y + 2, bottom) - top)[:, None], (TY, TX))
    # 2^x costs an instruction less than e^x
    x0, x1, x2 = (x0 * _LOG2_E)[None, :], (x1 * _LOG2_E)[None, :], (x2 * _LOG2_E)[None, :]
    y0, y1, y2 = y0[:, None], y1[:, None], y2[:, None]

    ahead = tl.load(plane + place, mask=keep, other=0.0)
    for k in range(K):
        source = _finite(ahead)
        # the next class is on its way while this one is compared
        plane += YL * XL
        ahead = tl.load(plane + place, mask=keep & (k + 1 < K), other=0.0)
        wide = tl.gather(source, column0, 1) * x0 + tl.gather(source, column1, 1) * x1  # [SY, TX]
        if STEPS == 2:
            wide += tl.gather(source, column2, 1) * x2
        value = tl.gather(wide, row0, 0) * y0 + tl.gather(wide, row1, 0) * y1  # [TY, TX]
        if STEPS == 2:
            value += tl.gather(wide, row2, 0) * y2
        best, label, total = _compare(value, k, best, label, total)
    return label, total


@triton.jit(do_not_specialize=["B", "K", "YL", "XL", "Y1", "X1", "Y", "X", "VOIDS"])
def classify(
    logits, void, labels, confidence, broken,
    B, K, YL, XL, Y1, X1, Y, X, VOIDS, scale_y0, scale_x0, centre0, scale_y1, scale_x1, centre1,
    STEPS: tl.constexpr, ALIGNED: tl.constexpr, TY: tl.constexpr, TX: tl.constexpr, SY: tl.constexpr, SX: tl.constexpr,
):  # fmt: skip
    """TY x TX pixels of the map, one class after the other."""
    if ALIGNED:
        X = X // 16 * 16
    block = tl.program_id(0)
    b = tl.program_id(1).to(tl.int64)
    across = tl.cdiv(X, TX)
    y = block // across * TY + tl.arange(0, TY)
    x = block % across * TX + tl.arange(0, TX)
    inside = (y < Y)[:, None] & (x < X)[None, :]
    best = tl.full((TY, TX), float("-inf"), tl.float32)
    label = tl.zeros((TY, TX), tl.int32)
    total = tl.zeros((TY, TX), tl.float32)
    if STEPS == 0:
        label, total = _as_they_are(logits + b * K * Y * X, K, Y * X, X, y, x, inside, best, label, total)
    else:
        label, total = _resized(
            logits + b * K * YL * XL, K, YL, XL, Y1, X1, Y, X, y, x,
            scale_y0, scale_x0, centre0, scale_y1, scale_x1, centre1, best, label, total, STEPS, SY, SX,
        )  # fmt: skip
    finite = total == total
    found = tl.where(finite, label, _VOID).to(tl.uint8)
    percent = tl.where(finite, 100.0 / total + 0.5, _VOID).to(tl.int32).to(tl.uint8)
    place = y[:, None] * X + x[None, :]
    # what is void is said where the maps are stored, 16 pixels of a row at a time
    seen = tl.load(void + b * Y * X + place, mask=inside & (VOIDS != 0), other=0) == 0
    tl.store(labels + b * Y * X + place, tl.where(seen, found, _VOID), mask=inside)
    tl.store(confidence + b * Y * X + place, tl.where(seen, percent, _VOID), mask=inside)
    # in float32, which is exact here: the compiler takes a sum of bits through local memory
    lost = tl.sum(tl.sum(tl.where(inside & seen & (percent == _VOID), 1.0, 0.0), axis=1), axis=0)
    tl.store(broken + b * tl.num_programs(0) + block, lost.to(tl.int32))


def _configure(variant: Variant, capability: int) -> Configuration:
    """Sixteen pixels per thread, whose best, class and sum stay in registers."""
    constants = variant.constants
    SY, SX = classify_room(variant.types["T"], steps=constants["STEPS"])
    return Configuration(
        {"SY": SY, "SX": SX}, warps=min(max(constants["TY"] * constants["TX"] // 512, 1), 16), stages=1
    )


def _variants() -> Iterator[Variant]:
    for dtype in ("fp32", "fp16", "bf16"):
        for steps in (1, 2):
            SY, SX = classify_room(dtype, steps=steps)
            yield Variant({"T": dtype}, {"STEPS": steps, "ALIGNED": 1, "TY": 2 * SY, "TX": 2 * SX})


FORWARD = KernelSpec(
    name="classify",
    function=classify,
    arguments=(
        Pointer("logits", "T", ("B", "K", "YL", "XL")),
        Pointer("void", "u8", ("B * VOIDS", "Y", "X")),
        Pointer("labels", "u8", ("B", "Y", "X"), written=True),
        Pointer("confidence", "u8", ("B", "Y", "X"), written=True),
        Pointer("broken", "i32", ("B", "cdiv(Y, TY) * cdiv(X, TX)"), written=True),
        *map(Scalar, ("B", "K", "YL", "XL", "Y1", "X1", "Y", "X", "VOIDS")),
        *(Scalar(name, "fp32") for name in ("scale_y0", "scale_x0", "centre0", "scale_y1", "scale_x1", "centre1")),
    ),
    grid=("cdiv(Y, TY) * cdiv(X, TX)", "B"),
    variants=tuple(_variants()),
    configure=_configure,
    admits={"T": ("fp32", "fp16", "bf16")},
)
