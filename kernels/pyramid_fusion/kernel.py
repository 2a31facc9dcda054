"""Triton kernels of `pyramid_fusion`, and what is declared of them."""

from __future__ import annotations

import triton
import triton.language as tl

from ...engine.launching import ITEM_BYTES
from ..spec import Configuration, KernelSpec, Pointer, Scalar, Variant

__all__ = ["BACKWARD", "FORWARD", "SAME", "SAMPLED"]

SAME = 2
"""Maps of the output's own size that one launch adds."""

SAMPLED = 5
"""Maps of any size that one launch samples. Empty places cost nothing; with `SAME` they serve all seven modalities."""


@triton.jit
def _place(index, size, source):
    """Where half-pixel-centred output places lie between source places: the one before, and the share of the next.

    In integers, so that it is exact: place = ((2 index + 1) source - size) / (2 size), kept within the source.
    """
    above = tl.minimum(tl.maximum((2 * index + 1) * source - size, 0), 2 * size * (source - 1))
    first = above // (2 * size)
    return first, (above - first * 2 * size).to(tl.float32) / (2 * size).to(tl.float32)


@triton.jit
def _window(start, count, size, source):
    """First source place that some output places touch, and how many they touch."""
    low, _ = _place(start, size, source)
    high, share = _place(tl.minimum(start + count, size) - 1, size, source)
    return low, high - low + 1 + (share > 0).to(tl.int32)


@triton.jit
def _hat(first, share, source):
    """Bilinear weights of source places, along one axis."""
    return tl.maximum(1.0 - tl.abs((first - source).to(tl.float32) + share), 0.0)


@triton.jit
def _add_product(total, weight, values):
    """Adds weight [M, S] in float32 x values [S, N] to the total [M, N]."""
    if values.dtype == tl.float32:
        total = tl.dot(weight, values, total, input_precision="tf32x3")
    else:
        # two halves, so that the short type loses nothing of the weights
        high = weight.to(values.dtype)
        low = (weight - high.to(tl.float32)).to(values.dtype)
        total = tl.dot(high, values, total)
        total = tl.dot(low, values, total)
    return total


@triton.jit
def _add_sampled(total, source, b, y0, x0, y, x, n, BI, YI, XI, Y, X, COUT, PY: tl.constexpr, PX: tl.constexpr,
                 S: tl.constexpr):  # fmt: skip
    """Adds a map [BI, YI, XI, COUT], sampled at the block's pixels; an empty map adds nothing."""
    low_y, window_y = _window(y0, PY, Y, YI)
    low_x, window_x = _window(x0, PX, X, XI)
    first_y, share_y = _place(y, Y, YI)
    first_x, share_x = _place(x, X, XI)
    corner = ((tl.minimum(b, BI - 1).to(tl.int64) * YI + low_y) * XI + low_x) * COUT
    touched = window_y * window_x
    for start in range(0, touched, S):
        s = start + tl.arange(0, S)
        row = s // window_x
        column = s - row * window_x
        values = tl.load(
            source + corner + (row * XI + column)[:, None] * COUT + n[None, :],
            mask=(s < touched)[:, None] & (n < COUT)[None, :],
            other=0.0,
        )
        weight = _hat((first_y - low_y)[:, None], share_y[:, None], row[None, :])
        weight *= _hat((first_x - low_x)[:, None], share_x[:, None], column[None, :])
        total = _add_product(total, weight, values)
    return total


@triton.jit
def _pick(i, each0, each1, each2, each3, each4):
    """The i-th of all, so that the code that samples is there once."""
    last = tl.where(i == 3, each3, each4)
    return tl.where(i == 0, each0, tl.where(i == 1, each1, tl.where(i == 2, each2, last)))


@triton.jit
def _add_same(total, source, b, first, place, keep, B, pixels, COUT):
    """Adds a map [B, pixels, COUT] of the output's size; an empty map adds nothing."""
    corner = (tl.minimum(b, B - 1).to(tl.int64) * pixels + first) * COUT
    return total + tl.load(source + corner + place, mask=keep & (B > 0), other=0.0).to(tl.float32)


@triton.jit(
    do_not_specialize=[
        *("B", "Y", "X", "CIN", "COUT", "BIASES", "MAPS", "BS0", "BS1"),
        *("B0", "Y0", "X0", "B1", "Y1", "X1", "B2", "Y2", "X2", "B3", "Y3", "X3", "B4", "Y4", "X4"),
    ]
)
def pyramid_fusion(
    base, weight, bias, same0, same1, map0, map1, map2, map3, map4, out,
    B, Y, X, CIN, COUT, BIASES, MAPS, BS0, BS1, B0, Y0, X0, B1, Y1, X1, B2, Y2, X2, B3, Y3, X3, B4, Y4, X4,
    BASE: tl.constexpr, ALIGNED: tl.constexpr,
    PY: tl.constexpr, PX: tl.constexpr, N: tl.constexpr, K: tl.constexpr, S: tl.constexpr,
):  # fmt: skip
    """A block of PY x PX pixels and N channels."""
    if ALIGNED:
        CIN = CIN // 16 * 16
        COUT = COUT // 16 * 16
    # programs of the same pixels follow each other: what they share of the base is still in the cache
    shares = tl.cdiv(COUT, N)
    n = tl.program_id(0) % shares * N + tl.arange(0, N)
    block = tl.program_id(0) // shares
    across = tl.cdiv(X, PX)
    y0 = block // across * PY
    x0 = block % across * PX
    b = tl.program_id(1)
    p = tl.arange(0, PY * PX)
    y = y0 + p // PX
    x = x0 + p % PX
    inside = (y < Y) & (x < X)
    pixel = p // PX * X + p % PX  # from the block's first one
    first = y0.to(tl.int64) * X + x0

    total = tl.zeros((PY * PX, N), tl.float32)
    if BASE:
        base += (b.to(tl.int64) * Y * X + first) * CIN
        for start in range(0, CIN, K):
            k = start + tl.arange(0, K)
            left = tl.load(
                base + pixel[:, None] * CIN + k[None, :], mask=inside[:, None] & (k < CIN)[None, :], other=0.0
            )
            right = tl.load(
                weight + n[None, :] * CIN + k[:, None], mask=(n < COUT)[None, :] & (k < CIN)[:, None], other=0.0
            )
            total = tl.dot(left, right, total, input_precision="tf32x3")
    for i in range(MAPS):
        source = _pick(i, map0, map1, map2, map3, map4)
        BI = _pick(i, B0, B1, B2, B3, B4)
        YI = _pick(i, Y0, Y1, Y2, Y3, Y4)
        XI = _pick(i, X0, X1, X2, X3, X4)
        total = _add_sampled(total, source, b, y0, x0, y, x, n, BI, YI, XI, Y, X, COUT, PY, PX, S)
    total += tl.load(bias + n, mask=n < BIASES, other=0.0)[None, :]

    keep = inside[:, None] & (n < COUT)[None, :]
    place = pixel[:, None] * COUT + n[None, :]
    total = _add_same(total, same0, b, first, place, keep, BS0, Y * X, COUT)
    total = _add_same(total, same1, b, first, place, keep, BS1, Y * X, COUT)
    out += (b.to(tl.int64) * Y * X + first) * COUT
    tl.store(out + place, total.to(out.dtype.element_ty), mask=keep)


@triton.jit
def _touching(start, count, size, source):
    """First output place that may touch some source places, and how many may."""
    low = tl.maximum(tl.maximum((2 * start - 1) * size, 0) // source - 1, 0) // 2
    high = tl.minimum(tl.cdiv((2 * (start + count) + 1) * size, source) // 2, size - 1)
    return low, high - low + 1


@triton.jit(do_not_specialize=["B", "Y", "X", "C", "BI", "YI", "XI"])
def pyramid_fusion_backward(
    gradient, to_map,
    B, Y, X, C, BI, YI, XI,
    ALIGNED: tl.constexpr, SY: tl.constexpr, SX: tl.constexpr, N: tl.constexpr, P: tl.constexpr,
):  # fmt: skip
    """The gradient of a block of SY x SX pixels and N channels of a sampled map: the transposed product."""
    if ALIGNED:
        C = C // 16 * 16
    shares = tl.cdiv(C, N)
    n = tl.program_id(0) % shares * N + tl.arange(0, N)
    block = tl.program_id(0) // shares
    across = tl.cdiv(XI, SX)
    y0 = block // across * SY
    x0 = block % across * SX
    b = tl.program_id(1)
    s = tl.arange(0, SY * SX)
    row = y0 + s // SX
    column = x0 + s % SX
    low_y, window_y = _touching(y0, SY, Y, YI)
    low_x, window_x = _touching(x0, SX, X, XI)
    touching = window_y * window_x

    total = tl.zeros((SY * SX, N), tl.float32)
    # a map that serves the whole batch gathers from all samples
    samples = B // BI
    for each in range(samples):
        corner = (((b * samples + each).to(tl.int64) * Y + low_y) * X + low_x) * C
        for start in range(0, touching, P):
            p = start + tl.arange(0, P)
            y = p // window_x
            x = p - y * window_x
            values = tl.load(
                gradient + corner + (y * X + x)[:, None] * C + n[None, :],
                mask=(p < touching)[:, None] & (n < C)[None, :],
                other=0.0,
            )
            first_y, share_y = _place(low_y + y, Y, YI)
            first_x, share_x = _place(low_x + x, X, XI)
            weight = _hat(first_y[None, :], share_y[None, :], row[:, None])
            weight *= _hat(first_x[None, :], share_x[None, :], column[:, None])
            total = _add_product(total, weight, values)
    inside = (row < YI) & (column < XI)
    to_map += ((b.to(tl.int64) * YI + y0) * XI + x0) * C
    place = (s // SX * XI + s % SX)[:, None] * C + n[None, :]
    tl.store(to_map + place, total.to(to_map.dtype.element_ty), mask=inside[:, None] & (n < C)[None, :])


def _configure(variant: Variant, capability: int) -> Configuration:
    """Wide enough that the rim around a block's samples is little, small enough that two programs fit a processor."""
    constants = variant.constants
    # channels that 16 does not divide are classes, or those of a narrow network; with more of them at once it spills
    few = not constants["BASE"] and not constants["ALIGNED"]
    block = {"PY": 8, "PX": 16, "N": 32 if few else 64, "S": 16}
    # longer steps spill: of float32, whose products are three each, and on sm_100 and sm_110
    short = variant.types["T"] == "fp32" or capability in (100, 110)
    item_bytes = ITEM_BYTES[variant.types["T"]]
    return Configuration({**block, "K": (64 if short else 128) // item_bytes}, warps=8, stages=3)


def _configure_backward(variant: Variant, capability: int) -> Configuration:
    """Small blocks: a map of 10 x 10 pixels must make programs enough."""
    return Configuration({"SY": 4, "SX": 4, "N": 64, "P": 64}, warps=4, stages=2)


FORWARD = KernelSpec(
    name="pyramid_fusion",
    function=pyramid_fusion,
    arguments=(
        Pointer("base", "T", ("B", "Y", "X", "CIN")),
        Pointer("weight", "T", ("COUT", "CIN")),
        Pointer("bias", "fp32", ("BIASES",)),
        *(Pointer(f"same{i}", "T", (f"BS{i}", "Y", "X", "COUT")) for i in range(SAME)),
        *(Pointer(f"map{i}", "T", (f"B{i}", f"Y{i}", f"X{i}", "COUT")) for i in range(SAMPLED)),
        Pointer("out", "T", ("B", "Y", "X", "COUT"), written=True),
        *map(Scalar, ("B", "Y", "X", "CIN", "COUT", "BIASES", "MAPS")),
        *(Scalar(f"BS{i}") for i in range(SAME)),
        *(Scalar(f"{axis}{i}") for i in range(SAMPLED) for axis in "BYX"),
    ),
    grid=("cdiv(COUT, N) * cdiv(Y, PY) * cdiv(X, PX)", "B"),
    variants=tuple(
        Variant({"T": dtype}, {"BASE": base, "ALIGNED": 1}) for dtype in ("fp32", "fp16", "bf16") for base in (1, 0)
    ),
    configure=_configure,
    admits={"T": ("fp32", "fp16", "bf16")},
)

BACKWARD = KernelSpec(
    name="pyramid_fusion_backward",
    function=pyramid_fusion_backward,
    arguments=(
        Pointer("gradient", "T", ("B", "Y", "X", "C")),
        Pointer("to_map", "T", ("BI", "YI", "XI", "C"), written=True),
        *map(Scalar, ("B", "Y", "X", "C", "BI", "YI", "XI")),
    ),
    grid=("cdiv(C, N) * cdiv(YI, SY) * cdiv(XI, SX)", "BI"),
    variants=tuple(Variant({"T": dtype}, {"ALIGNED": 1}) for dtype in ("fp32", "bf16")),
    configure=_configure_backward,
    admits={"T": ("fp32", "fp16", "bf16")},
)
