"""8-bit plans for processors: what `uperfuse build --device cpu` adds to a plan."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..agreement import refuse_unlike
from ..backends.cpu import CpuBackend
from ..backends.verify import against_processor
from ..plan.plan import Plan, write_plan
from ..rasters.scene import Scene
from .gain import Gain, gain_of
from .processor_layers import ProcessorQuantisation, quantise_for_processor
from .tiles import tiles_of_scene
from .vouching import Vouching, vouch

__all__ = ["ProcessorReport", "build_for_processor"]

Say = Callable[[str], None]


@dataclass(frozen=True)
class ProcessorReport:
    """What a build for processors did.

    Attributes:
        quantisation: what was added.
        plan_hash: of the plan that holds it.
        lines: for the user.
        gain: how fast the 8-bit form is here.
    """

    quantisation: ProcessorQuantisation
    plan_hash: str
    lines: tuple[str, ...]
    gain: Gain


def build_for_processor(
    path: Path,
    *,
    out: Path | None = None,
    scene: Scene,
    max_miou_drop: float,
    labels: Mapping[str, Path] | None = None,
    say: Say = lambda _: None,
) -> ProcessorReport:
    """Add 8-bit segments for processors to a plan.

    Args:
        path: the plan.
        out: where the plan with them goes; None replaces it. Nothing is written unless all is well.
        scene: rasters whose tiles give ranges and accuracy.
        max_miou_drop: points of mean IoU that no task may lose.
        labels: task -> raster of its truth, where the user has one.
        say: where progress goes, a line at a time.

    Raises:
        PlanError: the plan breaks a rule.
        RasterError: the scene is not what the plan takes.
        BackendError: the limit does not hold, or the processor's 8-bit products are wrong.
    """
    out = out or path
    with Plan.open(path) as plan:
        tiles = tiles_of_scene(scene, plan.manifest, labels=labels)
        made = quantise_for_processor(plan, tiles=tiles, max_miou_drop=max_miou_drop, say=say)
        partial = out.with_name(f".{out.name}.{uuid.uuid4().hex}.partial")
        try:
            vouching = vouch(plan)
            plan_hash = _write(plan, partial, made, vouching)
            say("comparing with float32 on the plan's fixed tiles")
            _compare(partial)
            say("timing it in turns with the plan's other precision")
            gain = gain_of(partial)
            partial.replace(out)
        finally:
            partial.unlink(missing_ok=True)
    notes = (*gain.lines, *vouching.notes)
    return ProcessorReport(made, plan_hash, tuple(_lines(made, out, plan_hash, notes=notes)), gain)


def _write(plan: Plan, path: Path, made: ProcessorQuantisation, vouching: Vouching) -> str:
    before = plan.manifest
    manifest = before.model_copy(
        update={
            "schema_version": max(2, before.schema_version),
            "engines": vouching.engines,
            "quantised": made.payload,
            "members": {},
        }
    )
    dropped = set(before.members_used()) - set(manifest.members_used())
    old = {name: plan.member(name) for name in before.members if name not in dropped}
    return write_plan(path, manifest, {**old, **made.members}, sign_with=vouching.keys)


def _compare(path: Path) -> None:
    """Refuse a plan whose 8-bit form gives other maps than itself in float32."""
    with Plan.open(path) as plan:
        short = CpuBackend(plan, precision="int8", threads=None)
        try:
            wide = CpuBackend(plan, precision="float32", threads=None)
            try:
                agreement = against_processor(short, wide, plan.manifest)
            finally:
                wide.close()
        finally:
            short.close()
    refuse_unlike(agreement, precision="int8", what="the 8-bit form")


def _lines(made: ProcessorQuantisation, out: Path, plan_hash: str, *, notes: Sequence[str]) -> list[str]:
    payload = made.payload
    lines = [
        f"{payload.parameters:,} weights in 8 bits, of {', '.join(payload.segments)}",
        f"{made.miou_drop:.2f} points of mean IoU lost, {payload.max_miou_drop:g} allowed",
    ]
    lines += [
        f"{each.task}: {each.argmax_equal:.3%} of classes equal, relative error {each.relative_error:.1e}"
        for each in payload.agreement
    ]
    if payload.float_layers:
        lines.append(f"stayed in floating point: {', '.join(payload.float_layers)}")
    return [*lines, *notes, f"{out}: {out.stat().st_size / 1e6:.1f} MB, plan {plan_hash[:12]}"]
