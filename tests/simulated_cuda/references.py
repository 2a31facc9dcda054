"""What each kernel computes, by its plain-PyTorch reference: named arrays and scalars of a launch to what it writes.

References compute in float32 whatever the arrays' dtype, as kernels do, and round once, when the result is written.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import takewhile

import numpy as np
import torch
from torch import Tensor

from uperfuse.engine.launching import (
    KernelRequest,
    LaunchRecord,
    aggregate_request,
    attention_request,
    classify_numbers,
    classify_request,
    fusion_request,
    prepare_request,
    resize_steps,
)
from uperfuse.kernels.classify import reference as classify_reference
from uperfuse.kernels.prepare import reference as prepare_reference
from uperfuse.kernels.pyramid_fusion import reference as fusion_reference
from uperfuse.kernels.temporal_aggregate import reference as aggregate_reference
from uperfuse.kernels.temporal_attention import reference as attention_reference

from .control import SimulationError

__all__ = ["run"]


@dataclass(frozen=True)
class Inputs:
    """A launch: the record, the scalars and the arrays where they lie."""

    record: LaunchRecord
    scalars: Mapping[str, int | float]
    arrays: Mapping[str, Tensor]

    def number(self, name: str) -> int:
        """A scalar that counts."""
        return int(self.scalars[name])

    def constant(self, name: str) -> int:
        """A compile-time constant, of whichever origin."""
        return {**self.record.constants, **self.record.configuration}[name]

    def wide(self, name: str) -> Tensor:
        """An array in float32."""
        return self.arrays[name].float()

    def demand(self, request: KernelRequest) -> None:
        """Refuse a form of the kernel that is not the one for these sizes."""
        if not request.matches(self.record):
            raise SimulationError(f"is {self.record.kernel}.{self.record.variant}, expected {request}")

    def demand_that(self, holds: bool | Tensor, what: str) -> None:
        """Refuse values that a kernel would take at their word."""
        if not holds:
            raise SimulationError(what)


def run(record: LaunchRecord, *, scalars: Mapping[str, int | float], arrays: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Compute what a kernel writes; inputs stay as they are.

    Args:
        record: of the kernel.
        scalars: by name.
        arrays: by name, of the record's extents.

    Returns:
        Every array that the kernel writes, by name.

    Raises:
        SimulationError: the kernel is not the one for these sizes, or its inputs cannot be.
    """
    if record.kernel not in REFERENCES:
        raise SimulationError("has no reference here, expected one of " + ", ".join(sorted(REFERENCES)))
    return REFERENCES[record.kernel](Inputs(record, scalars, arrays))


def prepare(given: Inputs) -> dict[str, Tensor]:
    """Digital numbers [B, bands, N] to values [B, C, N], and how many of each program's are broken."""
    types, pixels, block = given.record.types, given.arrays["pixels"], given.constant("P")
    given.demand(prepare_request(sample=types["S"], dtype=types["T"], pixels=given.number("N")))
    band, minus = given.arrays["band"], given.arrays["minus"]
    inside = (band >= 0) & (band < pixels.shape[1]) & (minus >= -1) & (minus < pixels.shape[1])
    given.demand_that(inside.all(), f"takes bands {band.tolist()} and {minus.tolist()} of {pixels.shape[1]}")
    tables = (band.clone(), minus.clone(), given.arrays["mean"].clone(), given.arrays["std"].clone())
    channels = prepare_reference.Channels(*tables, bands=pixels.shape[1])
    void = given.arrays["void"][:, None, :] if given.number("VOIDS") else None
    # indexing knows no uint16
    wide = pixels if pixels.dtype == torch.float32 else pixels.to(torch.int32)
    out = given.arrays["out"].dtype
    made = prepare_reference.prepare(wide[:, :, None, :], channels=channels, void=void, dtype=out).values[:, :, 0]
    return {"out": made, "broken": _sums((~made.isfinite()).sum(1), block)}


def _sums(counts: Tensor, block: int) -> Tensor:
    """[B, N] summed over blocks along the last axis."""
    padded = torch.nn.functional.pad(counts, (0, -counts.shape[1] % block))
    return padded.reshape(counts.shape[0], -1, block).sum(2)


def temporal_attention(given: Inputs) -> dict[str, Tensor]:
    """Features [B, T, N, C] to context and attention, with what gradients would need."""
    features, mask = given.arrays["features"], given.arrays["mask"]
    heads, channels, embedding = (given.constant(name) for name in "HCD")
    request = attention_request(
        heads=heads,
        channels=channels,
        embedding=embedding,
        dtype=given.record.types["T"],
        dates=given.number("T"),
    )
    given.demand(request)
    given.demand_that((mask <= 1).all(), f"has a mask of {mask.unique().tolist()}, expected 0 and 1")
    entries = embedding // heads
    period = (given.scalars["ratio"] + given.scalars["ratio_rest"]) ** (-entries / 2)
    names = ("norm_scale", "norm_shift", "score")
    context, attention, normaliser, mean, deviation = attention_reference.absorbed(
        features[:, :, None],
        given.arrays["days"],
        mask,
        *(given.arrays[name] for name in names),
        given.arrays["score_position"].reshape(heads, entries),
        given.arrays["score_bias"],
        given.arrays["embed"],
        given.arrays["embed_bias"],
        given.arrays["seed"],
        period,
        0.0,
    )
    statistics = {"normaliser": normaliser, "mean_of": mean, "deviation_of": deviation}
    return {"context": context, "attention": attention, **statistics}


def temporal_aggregate(given: Inputs) -> dict[str, Tensor]:
    """Maps [B, T, N_i, C_i] to sums over dates [B, N_i, C_i]."""
    sizes = given.number("YA"), given.number("XA")
    places = [
        each.name.removeprefix("features") for each in given.record.parameters if each.name.startswith("features")
    ]
    used = list(takewhile(lambda place: given.constant(f"C{place}"), places))
    maps, of = [], []
    for place in used:
        yx = (given.number(f"Y{place}"), given.number(f"X{place}"))
        B, T, _, C = given.arrays[f"features{place}"].shape
        maps.append(given.wide(f"features{place}").reshape(B, T, *yx, C).permute(0, 1, 4, 2, 3))
        of.append(yx)
    given.demand(
        aggregate_request(
            heads=given.constant("H"),
            channels=[given.constant(f"C{place}") for place in used],
            dtype=given.record.types["T"],
            resized=any(yx != sizes for yx in of),
        )
    )
    attention = given.wide("attention")
    B, T, _, H = attention.shape
    sums = aggregate_reference.temporal_aggregate(maps, attention.reshape(B, T, *sizes, H).permute(0, 4, 1, 2, 3))
    made = {f"out{place}": given.arrays[f"out{place}"].clone() for place in places}
    return made | {f"out{place}": each.permute(0, 2, 3, 1) for place, each in zip(used, sums, strict=True)}


def pyramid_fusion(given: Inputs) -> dict[str, Tensor]:
    """Maps [B or 1, Y_i, X_i, C] and a projected one to their sum [B, Y, X, C]."""
    B, Y, X, COUT = (given.number(name) for name in ("B", "Y", "X", "COUT"))
    base = given.constant("BASE")
    given.demand(
        fusion_request(
            channels=COUT, dtype=given.record.types["T"], base_channels=given.number("CIN") if base else None
        )
    )
    names = [name for name in given.arrays if name.startswith("same") and given.number(f"BS{name[-1]}")]
    names += [f"map{place}" for place in range(given.number("MAPS"))]
    maps = [given.wide(name).permute(0, 3, 1, 2) for name in names]
    wrong = [name for name, each in zip(names, maps, strict=True) if each.shape[0] not in (1, B) or 0 in each.shape]
    given.demand_that(not wrong, f"has maps {wrong} of neither 1 nor {B} samples, or without a pixel")
    if given.number("BIASES"):
        given.demand_that(given.number("BIASES") == COUT, f"has {given.number('BIASES')} biases, expected {COUT}")
        maps.append(given.wide("bias")[None, :, None, None].expand(1, -1, Y, X))
    if base:
        projected = given.wide("base") @ given.wide("weight").T
        maps.append(projected.permute(0, 3, 1, 2))
    given.demand_that(bool(maps), "adds nothing up")
    fused = fusion_reference.pyramid_fusion(maps, size=(Y, X)).expand(B, -1, -1, -1)
    return {"out": fused.permute(0, 2, 3, 1)}


def classify(given: Inputs) -> dict[str, Tensor]:
    """Logits [B, K, YL, XL] to labels and confidence [B, Y, X], and how many of each program's are broken."""
    logits_yx, map_yx, between = ((given.number(f"Y{end}"), given.number(f"X{end}")) for end in ("L", "", "1"))
    resizes = [(between, given.scalars["centre0"] == 0), (map_yx, given.scalars["centre1"] == 0)]
    resizes = resizes[: given.constant("STEPS")]
    given.demand(classify_request(dtype=given.record.types["T"], logits_yx=logits_yx, map_yx=map_yx, resizes=resizes))
    steps = resize_steps(logits_yx, resizes=resizes)
    expected = classify_numbers(logits_yx, map_yx=map_yx, steps=steps)
    wrong = {
        name: given.scalars[name]
        for name, value in expected.items()
        if np.float32(value) != np.float32(given.scalars[name])
    }
    given.demand_that(not wrong, f"has {wrong}, expected {expected}")
    void = given.arrays["void"] if given.scalars.get("VOIDS") else None
    found = classify_reference.classify(
        given.arrays["logits"],
        resizes=[classify_reference.Resize(yx, aligned) for yx, aligned in resizes],
        **({} if void is None else {"void": void}),
    )
    lost = found.labels == classify_reference.VOID
    if void is not None:
        lost &= void == 0
    rows, columns = given.constant("TY"), given.constant("TX")
    padded = torch.nn.functional.pad(lost.long(), (0, -map_yx[1] % columns, 0, -map_yx[0] % rows))
    B, Y, X = padded.shape
    broken = padded.reshape(B, Y // rows, rows, X // columns, columns).sum((2, 4)).flatten(1)
    return {"labels": found.labels, "confidence": found.confidence, "broken": broken}


REFERENCES: dict[str, Callable[[Inputs], dict[str, Tensor]]] = {
    "classify": classify,
    "prepare": prepare,
    "pyramid_fusion": pyramid_fusion,
    "temporal_aggregate": temporal_aggregate,
    "temporal_attention": temporal_attention,
}
