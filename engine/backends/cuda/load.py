"""From a plan to a back end on a GPU: a payload that fits, or engines built here, checked before they are used."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...cache import cache_root
from ...errors import BackendError, PlanError
from ...plan.payloads import Agreement, AttentionWeights, EnginePayload
from ...plan.plan import Plan
from ...tensorrt import Flavour
from ...trust import TrustLevel, may_run_engines
from ..doors import check_doors
from ..stand_ins import stand_in_vectors
from ..verify import against_check, against_processor, refuse_unlike
from .backend import CudaBackend
from .choose import Fit, best, fits
from .driver import Device, forget_frames
from .kernels import KernelSet, kernels_for
from .network import AttentionArrays, Network
from .parts import Parts
from .resources import Resources
from .session import CudaSession
from .source import Source, key_of, of_plan

__all__ = ["load_cuda", "open_payload"]

_ARRAYS = ("norm_scale", "norm_shift", "score", "score_position", "score_bias", "embed", "embed_bias")


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
    except BaseException:
        backend.close()
        raise
    return backend


def open_payload(plan: Plan, device: Device, source: Source, *, flavour: Flavour, why: str) -> CudaBackend:
    """Load a payload; the back end takes the device over.

    Args:
        plan: an open plan.
        device: where.
        source: the payload and its members.
        flavour: of TensorRT that runs it.
        why: where the engines come from, in words.

    Raises:
        PlanError: a member is not what the plan says of it.
        BackendError: TensorRT, the driver or the memory do not take it.
    """
    payload, manifest = source.payload, plan.manifest
    compiled, kernels_why = kernels_for(source.kernels, capability=device.capability, member=source.member)
    if not compiled:
        raise BackendError(
            f"{kernels_why}; run `uperfuse build` on the plan on this machine, or --arch {device.capability} on one "
            "that has Triton"
        )
    attention = {each.series: _attention(each, source.member) for each in source.attention} if payload.cut else {}
    vectors = {m.name: stand_in_vectors(plan, m.name) for m in manifest.modalities if m.may_be_absent}
    network = Network(manifest, payload, tuple(each.record for each in compiled), attention, vectors)
    with device.current():
        parts = Parts(device, payload, flavour=flavour, member=source.member)
        kernels = KernelSet(device, ())
        try:
            kernels = KernelSet(device, compiled)
            session = CudaSession(device, network, parts=parts, kernels=kernels)
        except BaseException as error:
            forget_frames(error)
            kernels.close()
            parts.close()
            device.free_buried()
            raise
    reasons = (
        f"runs on {device.name} (sm_{device.capability}, cuda:{device.ordinal}) in {payload.precision}",
        f"engines of {payload.flavour} {payload.version}, {why}",
        kernels_why + ("; series' encoders are whole engines" if payload.dates and not payload.cut else ""),
    )
    resources = Resources(device, parts=parts, kernels=kernels, session=session)
    return CudaBackend(resources, network, reasons=reasons)


def _build(plan: Plan, device: Device, *, precision: str, found: Iterable[Fit]) -> tuple[Source, Flavour]:
    """Build engines here, or take those that were built before."""
    reasons = [f"{fit.payload.target}: {'; '.join(fit.why_not)}" for fit in found] or ["the plan carries no engines"]
    try:
        from ...build.build import build_here
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
    key = key_of(plan.hash, payload.target, device.name, str(device.capability), *map(str, device.driver_version))
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
        return against_check(backend, plan, manifest.check)
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


def _attention(weights: AttentionWeights, member: Callable[[str], memoryview]) -> AttentionArrays:
    arrays: dict[str, NDArray[np.float32]] = {}
    for name in _ARRAYS:
        source = getattr(weights, name)
        try:
            values = np.load(io.BytesIO(member(source)), allow_pickle=False)
        except (ValueError, EOFError) as error:
            raise PlanError(f"{source} is not a NumPy array: {error}; run `uperfuse build` again") from error
        if not isinstance(values, np.ndarray) or values.dtype != np.float32 or not np.isfinite(values).all():
            raise PlanError(f"{source} does not hold finite float32 numbers; run `uperfuse build` again")
        arrays[name] = np.ascontiguousarray(values)
    made = AttentionArrays(weights.period, arrays)
    _check_shapes(weights.series, made)
    return made


def _check_shapes(series: str, attention: AttentionArrays) -> None:
    H, C, D = attention.heads, attention.channels, attention.embedding
    expected = {
        "norm_scale": (C,),
        "norm_shift": (C,),
        "score": (H, C),
        "score_position": (H, D // H),
        "score_bias": (H,),
        "embed": (D, C),
        "embed_bias": (D,),
    }
    for name, shape in expected.items():
        got = attention.arrays[name].shape
        if got != shape:
            raise PlanError(f"{name} of {series} has shape {got}, expected {shape}; run `uperfuse build` again")
