"""A small kernel, for the tests of what every kernel shares."""

from __future__ import annotations

import triton
import triton.language as tl

from uperfuse.kernels.spec import Configuration, KernelSpec, Pointer, Scalar, Variant


@triton.jit(do_not_specialize=["B", "N"])
def scale(rows, weights, out, B, N, factor, C: tl.constexpr, P: tl.constexpr):
    """out[b, n, c] = rows[b, n, c] * weights[c] * factor."""
    b = tl.program_id(1).to(tl.int64)
    pixel = tl.program_id(0) * P + tl.arange(0, P)
    channel = tl.arange(0, C)
    place = ((b * N + pixel) * C)[:, None] + channel[None, :]
    keep = (pixel < N)[:, None]
    values = tl.load(rows + place, mask=keep, other=0.0).to(tl.float32)
    scaled = values * tl.load(weights + channel)[None, :] * factor
    tl.store(out + place, scaled.to(out.dtype.element_ty), mask=keep)


def configure(variant: Variant, capability: int) -> Configuration:
    return Configuration({"P": 8 if capability < 90 else 16}, warps=2, stages=1)


def declare(**changes) -> KernelSpec:
    """The declaration, or one that differs."""
    said = {
        "name": "scale",
        "function": scale,
        "arguments": (
            Pointer("rows", "T", ("B", "N", "C")),
            Pointer("weights", "fp32", ("C",)),
            Pointer("out", "T", ("B", "N", "C"), written=True),
            Scalar("B"),
            Scalar("N"),
            Scalar("factor", "fp32"),
        ),
        "grid": ("cdiv(N, P)", "B"),
        "variants": (Variant({"T": "fp32"}, {"C": 4}), Variant({"T": "bf16"}, {"C": 4})),
        "configure": configure,
        "admits": {"T": ("fp32", "bf16")},
    }
    return KernelSpec(**(said | changes))


SCALE = declare()
