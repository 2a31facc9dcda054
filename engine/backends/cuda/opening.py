"""A payload on a GPU: engines deserialised, kernels loaded, memory laid out."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from ...errors import BackendError, PlanError
from ...plan.payloads import AttentionWeights
from ...plan.plan import Plan
from ...tensorrt import Flavour
from ..stand_ins import stand_in_vectors
from .backend import CudaBackend
from .built_network import AttentionArrays, BuiltNetwork
from .driver import Device, forget_frames
from .kernels import KernelSet, kernels_for
from .parts import Parts
from .resources import Resources
from .session import CudaSession
from .source import Source

__all__ = ["open_payload"]

_ARRAYS = ("norm_scale", "norm_shift", "score", "score_position", "score_bias", "embed", "embed_bias")


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
    network = BuiltNetwork(manifest, payload, tuple(each.record for each in compiled), attention, vectors)
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
