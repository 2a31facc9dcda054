"""Which of a plan's payloads runs on a GPU, and why the others do not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ...plan.manifest import Manifest
from ...plan.payloads import EnginePayload

__all__ = ["PRECISIONS", "Fit", "Machine", "RuntimeFlavour", "best", "fits"]

PRECISIONS = ("fp8", "int8", "fp16", "bf16", "float32")
"""Precisions of payloads, from the fastest on: who built a quantised payload did so behind a limit on its accuracy."""


@dataclass(frozen=True)
class RuntimeFlavour:
    """A TensorRT that can run engines here.

    Attributes:
        package: Python package.
        flavour: whose engines it runs, "tensorrt" or "tensorrt_rtx".
        version: of the package.
        lean: whether it runs version-compatible engines alone.
    """

    package: str
    flavour: str
    version: str
    lean: bool = False


@dataclass(frozen=True)
class Machine:
    """What a payload must fit.

    Attributes:
        name: of the GPU.
        capability: compute capability, 87 for 8.7.
        flavours: every TensorRT that is installed, the preferred one first.
    """

    name: str
    capability: int
    flavours: tuple[RuntimeFlavour, ...]


@dataclass(frozen=True)
class Fit:
    """A payload on a machine.

    Attributes:
        payload: of the plan.
        flavour: what would run it; None where nothing does.
        why_not: every reason that keeps it from running; none where it runs.
    """

    payload: EnginePayload
    flavour: RuntimeFlavour | None
    why_not: tuple[str, ...]


def fits(manifest: Manifest, *, machine: Machine, precision: str, untrusted: str | None) -> tuple[Fit, ...]:
    """Compare every payload of a plan with a machine.

    Args:
        manifest: of the plan.
        machine: what it must fit.
        precision: "auto", or the one that was asked for.
        untrusted: why no prebuilt engine of this plan may run; None where they may.
    """
    found = []
    for payload in manifest.engines:
        flavour, reasons = _flavour(payload, machine.flavours)
        if payload.capability is not None and payload.capability != machine.capability:
            reasons.append(f"built for sm_{payload.capability}, the GPU is sm_{machine.capability}")
        if precision not in ("auto", payload.precision):
            reasons.append(f"computes in {payload.precision}, {precision} was asked for")
        if untrusted is not None:
            reasons.append(untrusted)
        found.append(Fit(payload, flavour, tuple(reasons)))
    return tuple(found)


def best(found: Sequence[Fit]) -> Fit | None:
    """The fastest payload that runs; of equals the first."""
    running = [fit for fit in found if not fit.why_not]
    return min(running, key=lambda fit: PRECISIONS.index(fit.payload.precision), default=None)


def _flavour(payload: EnginePayload, flavours: Sequence[RuntimeFlavour]) -> tuple[RuntimeFlavour | None, list[str]]:
    """What runs a payload, or the reasons why nothing does."""
    same = [each for each in flavours if each.flavour == payload.flavour]
    if not same:
        installed = ", ".join(f"{each.package} {each.version}" for each in flavours) or "no TensorRT"
        return None, [f"built by {payload.flavour} {payload.version}, installed is {installed}"]
    reasons = []
    for each in same:
        if each.version == payload.version and (payload.version_compatible or not each.lean):
            return each, []
        if payload.version_compatible and _numbers(each.version) >= _numbers(payload.version):
            return each, []
        if each.lean and not payload.version_compatible:
            reasons.append(f"{each.package} runs version-compatible engines alone, and this is none")
        else:
            reasons.append(f"built by {payload.flavour} {payload.version}, installed is {each.package} {each.version}")
    return None, reasons


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdigit())
