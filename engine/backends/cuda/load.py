"""From a plan to a back end on a GPU: a payload that fits, or engines built here, checked before they are used."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from ...agreement import refuse_unlike
from ...cache import cache_root
from ...errors import BackendError
from ...plan.payloads import Agreement, EnginePayload
from ...plan.plan import Plan
from ...tensorrt import Flavour
from ...trust import TrustLevel, may_run_engines
from ..doors import check_doors
from ..verify import against_check, against_processor
from .backend import CudaBackend
from .choose import Fit, best, fits
from .driver import Device, forget_frames
from .opening import open_payload
from .source import Source, key_of, of_plan

__all__ = ["load_cuda"]


def load_cuda(plan: Plan, *, ordinal: int, precision: str, trust: TrustLevel) -> CudaBackend:
    """Load a plan on a GPU.

    Args:
        plan: an open plan.
        ordinal: which GPU.
        precision: "auto" (the fastest that the plan carries; fp16 where engines are built now), "float32", "fp16",
            "bf16", "int8" or "fp8".
        trust: whose engines may run; see `may_run_engines`.

    Raises:
        PlanError: a member is not what the plan says of it.
        BackendError: nothing serves; it says all reasons.
    """
    check_doors(plan.manifest)
    device = Device(ordinal)
    try:
        judged = may_run_engines(plan, trust=trust)
        untrusted = None if judged.allowed else judged.reason
        found = fits(plan.manifest, capability=device.capability, precision=precision, untrusted=untrusted)
        fit = best(found)
        if fit is None:
            source, flavour = _build(plan, device, precision=precision, found=found)
            why = source.origin
        else:
            assert fit.flavour is not None
            source, flavour, why = of_plan(plan, fit.payload), fit.flavour, f"from the plan: {judged.reason}"
        backend = open_payload(plan, device, source, flavour=flavour, why=why)
    except BaseException as error:
        forget_frames(error)
        device.release()
        raise
    try:
        _verify_once(backend, plan, source.payload, device)
    except BaseException:  # Ctrl-C during the comparison, too: device memory goes back
        backend.close()
        raise
    return backend


def _build(plan: Plan, device: Device, *, precision: str, found: Iterable[Fit]) -> tuple[Source, Flavour]:
    """Build engines here, or take those that were built before."""
    reasons = [f"{fit.payload.target}: {'; '.join(fit.why_not)}" for fit in found] or ["the plan carries no engines"]
    try:
        from ...builder.build import build_here
    except ModuleNotFoundError as error:
        raise BackendError(
            f"nothing in the plan runs on this GPU ({' | '.join(reasons)}), and building it here needs {error.name}; "
            "pip install 'uperfuse[tensorrt]', or run `uperfuse build` on the plan elsewhere"
        ) from error
    try:
        return build_here(plan, device, precision="fp16" if precision == "auto" else precision)
    except BackendError as error:
        raise BackendError(
            f"nothing in the plan runs on this GPU ({' | '.join(reasons)}), and it cannot be built here: {error}"
        ) from error


def _verify_once(backend: CudaBackend, plan: Plan, payload: EnginePayload, device: Device) -> None:
    """Check a payload before its first prediction on a GPU, unless it was built on it."""
    if payload.verified is not None and payload.verified.machine == device.name:
        return
    machine = (device.name, str(device.capability), *map(str, device.driver_version))
    key = key_of(plan.hash, str(plan.manifest.base_px), payload.target, *machine)
    mark = cache_root() / "verified" / key
    if mark.exists():
        return
    agreement = _agreement(backend, plan, most_dates=max(payload.dates, default=1))
    refuse_unlike(agreement, precision=payload.precision, what=f"{payload.target} on {device.name}")
    _touch(mark)


def _agreement(backend: CudaBackend, plan: Plan, *, most_dates: int) -> tuple[Agreement, ...]:
    """With what PyTorch gave for the plan's own check; with the processor where there is none of so few dates."""
    manifest = plan.manifest
    series = any(modality.kind == "series" for modality in manifest.modalities)
    if manifest.check is not None and not (series and manifest.check.dates > most_dates):
        return against_check(backend, plan)
    from ..cpu import CpuBackend

    processor = CpuBackend(plan, precision="float32", threads=None)
    try:
        return against_processor(backend, processor, manifest, most_dates=most_dates)
    finally:
        processor.close()


def _touch(mark: Path) -> None:
    try:
        mark.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        mark.touch()
    except OSError:  # it is compared again next time
        return
