"""Which of a plan's payloads runs on a GPU, and why the others do not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ...errors import BackendError
from ...plan.manifest import Manifest
from ...plan.payloads import EnginePayload
from ...tensorrt import Flavour, find_flavour
from ...tensorrt.flavour import Asked

__all__ = ["ASKED", "PRECISIONS", "Fit", "best", "fits"]

PRECISIONS = ("fp8", "int8", "fp16", "bf16", "float32")
"""Precisions of payloads, the fastest first: who built a quantised one did so behind a limit on its accuracy."""

ASKED: dict[str, Asked] = {"tensorrt": "tensorrt", "tensorrt_rtx": "rtx"}
"""Flavour of a payload -> how it is asked for."""


@dataclass(frozen=True)
class Fit:
    """A payload on a machine.

    Attributes:
        payload: of the plan.
        flavour: what would run it; None where nothing does.
        why_not: every reason that keeps it from running; none where it runs.
    """

    payload: EnginePayload
    flavour: Flavour | None
    why_not: tuple[str, ...]


def fits(
    manifest: Manifest, *, capability: int | None, precision: str = "auto", untrusted: str | None = None
) -> tuple[Fit, ...]:
    """Compare every payload of a plan with this machine.

    Args:
        manifest: of the plan.
        capability: compute capability of the GPU; None where there is no GPU.
        precision: "auto", or the one that was asked for.
        untrusted: why no prebuilt engine of this plan may run; None where they may.
    """
    found = []
    for payload in manifest.engines:
        reasons = []
        flavour = _flavour(payload)
        if isinstance(flavour, str):
            reasons.append(flavour)
        if capability is None:
            reasons.append("there is no GPU")
        elif payload.capability not in (None, capability):
            reasons.append(f"built for sm_{payload.capability}, the GPU is sm_{capability}")
        if precision not in ("auto", payload.precision):
            reasons.append(f"computes in {payload.precision}, {precision} was asked for")
        if untrusted is not None:
            reasons.append(untrusted)
        found.append(Fit(payload, flavour if isinstance(flavour, Flavour) else None, tuple(reasons)))
    return tuple(found)


def best(found: Sequence[Fit]) -> Fit | None:
    """The fastest payload that runs; of equals the first."""
    running = [fit for fit in found if not fit.why_not]
    return min(running, key=lambda fit: PRECISIONS.index(fit.payload.precision), default=None)


def _flavour(payload: EnginePayload) -> Flavour | str:
    """What runs a payload's engines here, or why nothing does."""
    compatible = payload.version_compatible
    try:
        flavour = find_flavour(ASKED[payload.flavour], need="run", version_compatible=compatible)
    except BackendError as error:
        return str(error)
    if flavour.version_text == payload.version:
        return flavour
    if compatible and _numbers(flavour.version_text) >= _numbers(payload.version):
        return flavour
    return f"built by {payload.flavour} {payload.version}, installed is {flavour}"


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdigit())
