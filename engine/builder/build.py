"""Adds what was built for one machine to a plan, or to the user's cache; a build that fails changes nothing."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ..agreement import refuse_unlike
from ..backends.cpu import CpuBackend
from ..backends.cuda.driver import Device, device_count
from ..backends.cuda.opening import open_payload
from ..backends.cuda.source import Source, keep, kept, key_of
from ..backends.verify import against_processor
from ..errors import BackendError, PlanError
from ..plan.payloads import AttentionWeights, CompiledKernel, EnginePayload, KernelPayload, Verified
from ..plan.plan import Plan, write_plan
from ..tensorrt import Flavour, find_flavour
from ..tensorrt.monitor import Progress
from .payload import Made, make_kernels, make_payload
from .quantised import Quantisation
from .settings import BuildMachine, BuildSettings, PlanPrecision, Say
from .vouching import vouch

__all__ = ["BuildReport", "Quantise", "add_kernels", "build_here", "build_plan", "find_device", "write_built"]

_LOG = logging.getLogger(__name__)

Quantise = Callable[[Plan], Quantisation]
"""Chooses what is quantised of a plan; see `quantise_for_tensorrt`."""


@dataclass(frozen=True)
class BuildReport:
    """What a build added.

    Attributes:
        payload: the engines.
        plan_hash: of the plan that holds them.
        size: of the plan's file in bytes.
        notes: what the user should read.
        signed: name of the key that the plan is signed with; None where it is not.
    """

    payload: EnginePayload
    plan_hash: str
    size: int
    notes: tuple[str, ...]
    signed: str | None


def find_device(asked: str) -> tuple[Device | None, str]:
    """The GPU that a build runs on.

    Args:
        asked: "auto", "cuda", "cuda:1", or "none" to build without one.

    Returns:
        The GPU, which the caller releases; or None and why there is none.

    Raises:
        BackendError: one was asked for by name, and is not there.
    """
    if asked == "none":
        return None, "built without a GPU, as asked"
    ordinal = int(asked.partition(":")[2] or 0)
    try:
        if not device_count():
            raise BackendError("the driver finds no GPU")
        return Device(ordinal), ""
    except BackendError as error:
        if asked != "auto":
            raise
        return None, str(error)


def build_plan(
    path: Path,
    *,
    out: Path | None = None,
    settings: BuildSettings,
    device: Device | None,
    quantise: Quantise | None = None,
    say: Say = lambda _: None,
    progress: Progress | None = None,
) -> BuildReport:
    """Add TensorRT engines, and the kernels between them, to a plan.

    Args:
        path: the plan.
        out: where the plan with the engines goes; None replaces it. Nothing is written unless all is well.
        settings: what is asked of the build.
        device: the GPU; None where there is none, which TensorRT-RTX alone can do without. The engines are then
            marked as not verified.
        quantise: chooses what is quantised, where the precision asks for it.
        say: where progress goes, a line at a time.
        progress: told of every step inside TensorRT.

    Raises:
        PlanError: the plan breaks a rule, or a segment cannot be built.
        BackendError: TensorRT, the GPU or the memory do not serve, or the engines give other maps than the plan.
    """
    with (
        Plan.open(path) as plan,
        tempfile.TemporaryDirectory(prefix=".uperfuse-build-", dir=_beside(out or path)) as at,
    ):
        quantisation = quantise(plan) if quantise is not None else None
        made = _make(plan, settings, device, Path(at), quantisation=quantisation, say=say, progress=progress)
        payload = made.payload
        if device is not None:
            say("comparing with the processor in float32")
            payload = _verified(plan, made, device)
        plan_hash, signed, notes = write_built(
            plan,
            out or path,
            payload=payload,
            kernels=made.kernels,
            attention=made.attention,
            members=made.members,
        )
    size = (out or path).stat().st_size
    return BuildReport(payload, plan_hash, size, (*made.notes, *notes), signed)


def add_kernels(path: Path, *, out: Path | None = None, settings: BuildSettings) -> tuple[str, tuple[str, ...]]:
    """Add compiled kernels alone to a plan: a board without Triton builds its engines around them.

    Args:
        path: the plan.
        out: where the plan with the kernels goes; None replaces it.
        settings: precision, dates and architectures.

    Returns:
        The plan's hash, and what the user should read.

    Raises:
        PlanError: the plan breaks a rule, or a series' encoder cannot be cut.
        BackendError: no architecture is named, or a kernel cannot be compiled here.
    """
    with Plan.open(path) as plan:
        kernels, attention, members = make_kernels(plan, settings)
        plan_hash, _, notes = write_built(
            plan, out or path, payload=None, kernels=kernels, attention=attention, members=members
        )
    return plan_hash, notes


def build_here(plan: Plan, device: Device, *, precision: str) -> tuple[Source, Flavour]:
    """Engines for this machine that the plan lacks: built once, and kept in the user's cache.

    Args:
        plan: an open plan.
        device: the GPU.
        precision: "float32", "fp16" or "bf16".

    Raises:
        BackendError: they cannot be built; or the precision wants tiles to choose ranges from.
    """
    if precision in ("int8", "fp8"):
        raise BackendError(
            f"{precision} chooses its ranges from tiles; run `uperfuse build` on the plan with --precision {precision} "
            "and --scene"
        )
    settings = BuildSettings(precision=_known(precision))
    flavour = find_flavour(settings.flavour, need="build")
    key = key_of(plan.hash, str(plan.manifest.base_px), device.name, str(device.capability), str(flavour), precision)
    found = kept(key)
    if found is not None:
        return found, flavour
    _LOG.info("building engines of %s for %s in %s; they are kept for the next time", plan.path, device.name, precision)
    with tempfile.TemporaryDirectory(prefix="uperfuse-build-") as at:
        made = _make(plan, settings, device, Path(at))
        payload = _verified(plan, made, device)
        source = keep(key, payload, kernels=made.kernels, attention=made.attention, members=made.members)
    return source, made.flavour


def write_built(
    plan: Plan,
    out: Path,
    *,
    payload: EnginePayload | None,
    kernels: Iterable[KernelPayload],
    attention: tuple[AttentionWeights, ...],
    members: Mapping[str, bytes | Path],
) -> tuple[str, str | None, tuple[str, ...]]:
    """Write a plan again with a payload more; one of the same target is replaced. This machine's key signs it.

    Args:
        plan: an open plan.
        out: the file to write; may be the plan's own.
        payload: the engines; None adds kernels alone.
        kernels: by architecture; added to those that the plan has.
        attention: of series whose encoders are cut.
        members: name -> content of everything that is new.

    Returns:
        The plan's hash, the name of the key that it is signed with, and what the user should read.
    """
    before = plan.manifest
    new = () if payload is None else (payload,)
    vouching = vouch(plan, replaced={each.target for each in new})
    manifest = before.model_copy(
        update={
            "schema_version": max(2, before.schema_version),
            "engines": (*vouching.engines, *new),
            "kernels": _merged(before.kernels, kernels),
            "attention": attention or before.attention,
            "members": {},
        }
    )
    used = manifest.members_used()
    old = {name: plan.member(name) for name in before.members if name in used and name not in members}
    extra = {name: plan.member(name) for name in set(before.members) - set(before.members_used())}
    plan_hash = write_plan(out, manifest, {**extra, **old, **members}, sign_with=vouching.keys)
    return plan_hash, vouching.signed, vouching.notes


def _make(
    plan: Plan,
    settings: BuildSettings,
    device: Device | None,
    folder: Path,
    *,
    quantisation: Quantisation | None = None,
    say: Say = lambda _: None,
    progress: Progress | None = None,
) -> Made:
    if device is None:
        return make_payload(
            plan, settings=settings, machine=None, folder=folder, quantisation=quantisation, say=say, progress=progress
        )
    # TensorRT builds for the device whose context is current
    with device.current():
        free, total = device.free_bytes()
        machine = BuildMachine(device.ordinal, device.name, device.capability, device.integrated, free, total)
        return make_payload(
            plan,
            settings=settings,
            machine=machine,
            folder=folder,
            quantisation=quantisation,
            say=say,
            progress=progress,
        )


def _verified(plan: Plan, made: Made, device: Device) -> EnginePayload:
    """The payload with what was found when it ran; it is refused where its maps are not the plan's."""

    def member(name: str) -> memoryview:
        content = made.members[name]
        return memoryview(content.read_bytes() if isinstance(content, Path) else content)

    source = Source(made.payload, made.kernels, made.attention, member, "built just now")
    backend = open_payload(plan, device.hold(), source, flavour=made.flavour, why=source.origin)
    try:
        processor = CpuBackend(plan, precision="float32", threads=None)
        try:
            most_dates = max(made.payload.dates, default=1)
            agreement = against_processor(backend, processor, plan.manifest, most_dates=most_dates)
        finally:
            processor.close()
    finally:
        backend.close()
    refuse_unlike(agreement, precision=made.payload.precision, what=f"{made.payload.target} on {device.name}")
    return made.payload.model_copy(update={"verified": Verified(machine=device.name, agreement=agreement)})


def _merged(before: Iterable[KernelPayload], new: Iterable[KernelPayload]) -> tuple[KernelPayload, ...]:
    """Kernels of both, each once; of the same record the new one."""
    found: dict[int, dict[str, CompiledKernel]] = {}
    for payload in (*before, *new):
        found.setdefault(payload.capability, {}).update({kernel.record: kernel for kernel in payload.kernels})
    return tuple(
        KernelPayload(capability=capability, kernels=tuple(kernels[name] for name in sorted(kernels)))
        for capability, kernels in sorted(found.items())
    )


def _known(precision: str) -> PlanPrecision:
    known: dict[str, PlanPrecision] = {"float32": "float32", "fp16": "fp16", "bf16": "bf16"}
    if precision not in known:
        raise BackendError(
            f"precision is {precision!r}, expected auto, float32, fp16, bf16, int8 or fp8; choose one of them"
        )
    return known[precision]


def _beside(out: Path) -> Path:
    if not out.parent.is_dir():
        raise PlanError(f"{out.parent} is no folder; make it, or choose another place for the plan")
    return out.parent
