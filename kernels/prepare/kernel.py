"""Triton kernel of `prepare`, and what is declared of it."""

from __future__ import annotations

import triton
import triton.language as tl

from ..spec import Configuration, KernelSpec, Pointer, Scalar, Variant

__all__ = ["BLOCK", "FORWARD"]

BLOCK = 2048
"""Pixels per program."""


@triton.jit(do_not_specialize=["B", "BANDS", "C", "N", "VOIDS"])
def prepare(
    pixels, void, band, minus, mean, std, out, broken, B, BANDS, C, N, VOIDS, ALIGNED: tl.constexpr, P: tl.constexpr
):
    """P pixels of every channel."""
    if ALIGNED:
        N = N // 16 * 16
    b = tl.program_id(1).to(tl.int64)
    pixel = tl.program_id(0) * P + tl.arange(0, P)
    inside = pixel < N
    valid = tl.load(void + b * N + pixel, mask=inside & (VOIDS != 0), other=0) == 0
    lost = tl.zeros((P,), tl.float32)
    held = -1
    values = tl.zeros((P,), tl.float32)
    for c in range(C):
        # elevation and height begin with the same band: what the last channel read is not read again
        this = tl.load(band + c)
        read = tl.load(pixels + (b * BANDS + this) * N + pixel, mask=inside & (this != held), other=0).to(tl.float32)
        values = tl.where(this == held, values, read)
        held = this
        other = tl.load(minus + c)
        less = tl.load(pixels + (b * BANDS + other) * N + pixel, mask=inside & (other >= 0), other=0).to(tl.float32)
        centred = values - less - tl.load(mean + c)
        if out.dtype.element_ty == tl.float32:
            normalised = tl.div_rn(centred, tl.load(std + c))
        else:
            # a division good to two bits of float32 is not seen in sixteen
            normalised = (centred / tl.load(std + c)).to(out.dtype.element_ty)
        finite = tl.abs(normalised.to(tl.float32)) < float("inf")
        lost += tl.where(finite | ~valid, 0.0, 1.0)
        tl.store(out + (b * C + c) * N + pixel, tl.where(valid, normalised, 0.0), mask=inside)
    lost = tl.sum(tl.where(inside, lost, 0.0), axis=0)
    tl.store(broken + b * tl.num_programs(0) + tl.program_id(0), lost.to(tl.int32))


def _configure(variant: Variant, capability: int) -> Configuration:
    """Sixteen pixels per thread: 128 bits of uint8."""
    return Configuration({"P": BLOCK}, warps=4, stages=1)


FORWARD = KernelSpec(
    name="prepare",
    function=prepare,
    arguments=(
        Pointer("pixels", "S", ("B", "BANDS", "N")),
        Pointer("void", "u8", ("B * VOIDS", "N")),
        Pointer("band", "i32", ("C",)),
        Pointer("minus", "i32", ("C",)),
        Pointer("mean", "fp32", ("C",)),
        Pointer("std", "fp32", ("C",)),
        Pointer("out", "T", ("B", "C", "N"), written=True),
        Pointer("broken", "i32", ("B", "cdiv(N, P)"), written=True),
        *map(Scalar, ("B", "BANDS", "C", "N", "VOIDS")),
    ),
    grid=("cdiv(N, P)", "B"),
    variants=tuple(
        Variant({"S": sample, "T": dtype}, {"ALIGNED": 1})
        for sample in ("u8", "u16", "fp32")
        for dtype in ("fp32", "fp16", "bf16")
    ),
    configure=_configure,
    admits={"S": ("u8", "u16", "i16", "fp32"), "T": ("fp32", "fp16", "bf16")},
)
