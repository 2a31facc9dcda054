"""A plan's segments as TensorRT engines, with the kernels between them: what `uperfuse build` adds to a plan."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import BackendError
from ..host_memory import available_host_bytes
from ..launching import AttentionShape, plan_requests
from ..plan.payloads import AttentionWeights, EnginePayload, KernelPayload, Part
from ..plan.plan import Plan
from ..tensorrt import Compiler, Flavour, find_flavour, workspace
from ..tensorrt.monitor import Progress
from ..tensorrt.timing_cache import keep_timings, read_timings
from .kernels import attention_shapes, collect_kernels, kernel_capability, kernel_members
from .part_graph import AttentionArrays, FloatPart, PartGraph, Precision
from .parts import float_parts
from .quantised import Quantisation, quantise_part
from .settings import BuildMachine, BuildSettings, PlanPrecision, Say
from .typed import write_types

__all__ = ["Made", "make_kernels", "make_payload"]

RTX_ARCHITECTURES = (86, 89, 120)
"""For which kernels are added where TensorRT-RTX builds without a GPU: workstations that it is made for."""

_WRITTEN: dict[PlanPrecision, Precision] = {
    "float32": "float32",
    "fp16": "fp16",
    "bf16": "bf16",
    "int8": "fp16",
    "fp8": "fp16",
}
"""Type of what a precision does not quantise."""
_HOST_WORKSPACE_BYTES = 4 << 30
_FP8_CAPABILITY = 89


@dataclass(frozen=True)
class Made:
    """A payload with all that belongs to it.

    Attributes:
        payload: the engines, not yet verified.
        kernels: by architecture.
        attention: of series whose encoders are cut.
        members: name -> content, or the file that holds it.
        flavour: of TensorRT that built it.
        notes: what the user should read.
    """

    payload: EnginePayload
    kernels: tuple[KernelPayload, ...]
    attention: tuple[AttentionWeights, ...]
    members: Mapping[str, bytes | Path]
    flavour: Flavour
    notes: tuple[str, ...]


def make_payload(
    plan: Plan,
    *,
    settings: BuildSettings,
    machine: BuildMachine | None,
    folder: Path,
    quantisation: Quantisation | None = None,
    say: Say = lambda _: None,
    progress: Progress | None = None,
) -> Made:
    """Build every part of a plan.

    Args:
        plan: an open plan.
        settings: what is asked of the build.
        machine: the GPU; None where there is none, which TensorRT-RTX alone can do without.
        folder: where engines are written, one file each.
        quantisation: what is quantised, where the precision asks for it.
        say: where progress goes, a line at a time.
        progress: told of every step inside TensorRT.

    Raises:
        PlanError: a segment cannot be cut or typed.
        BackendError: TensorRT, a kernel or the memory do not serve.
    """
    flavour = find_flavour(settings.flavour, need="build")
    if machine is None and flavour.name != "tensorrt_rtx":
        raise BackendError(
            f"{flavour} builds on a GPU alone, and there is none here; build on the board, or for workstations with "
            "--flavour rtx"
        )
    if settings.precision == "fp8" and machine is not None and machine.capability < _FP8_CAPABILITY:
        raise BackendError(
            f"{machine.name} is sm_{machine.capability}, and fp8 needs sm_{_FP8_CAPABILITY} or later; build in int8 "
            "or fp16"
        )
    compiler, timed = _compiler(flavour, settings, machine, progress)
    series = any(modality.kind == "series" for modality in plan.manifest.modalities)
    parts = float_parts(plan, cut=settings.cut and series)
    target = _target(flavour, settings, machine, cut=bool(parts.attention))
    built: list[Part] = []
    members: dict[str, bytes | Path] = {}
    notes = list(timed)
    warned: dict[str, list[str]] = {}
    for part in parts:
        graph = _typed(part, settings.precision, quantisation)
        say(f"building {part.name}")
        compiled = compiler.compile(graph, batches=settings.batches, dates=settings.dates)
        for warning in compiled.warnings:
            warned.setdefault(warning, []).append(part.name)
        member = f"tensorrt/{target}/{part.name.replace(':', '.')}.engine"
        path = folder / f"{len(built)}.engine"
        path.write_bytes(compiled.data)
        members[member] = path
        built.append(Part(name=part.name, member=member, inputs=graph.inputs, outputs=graph.outputs))
    attention, arrays = _attention(parts.attention)
    kernels, files = _kernels(plan, settings, machine, attention=attention_shapes(parts))
    payload = EnginePayload(
        target=target,
        flavour="tensorrt_rtx" if flavour.name == "tensorrt_rtx" else "tensorrt",
        version=flavour.version_text,
        version_compatible=settings.version_compatible,
        capability=None if flavour.name == "tensorrt_rtx" or machine is None else machine.capability,
        machine=machine.name if machine else None,
        precision=settings.precision,
        batches=settings.batches,
        dates=settings.dates if series else (),
        cut=bool(parts.attention),
        parts=tuple(built),
        float_layers=quantisation.float_layers if quantisation else (),
        timing_cache=_keep(compiler, flavour, machine),
    )
    return Made(
        payload, kernels, attention, {**members, **arrays, **files}, flavour, (*notes, *_said(warned, parts=len(built)))
    )


def make_kernels(
    plan: Plan, settings: BuildSettings
) -> tuple[tuple[KernelPayload, ...], tuple[AttentionWeights, ...], dict[str, bytes]]:
    """Kernels and what they need of the network, for boards that have no Triton.

    Args:
        plan: an open plan.
        settings: precision, dates and architectures.

    Returns:
        The kernels by architecture, the attention of series, and the members of both.

    Raises:
        PlanError: a series' encoder cannot be cut.
        BackendError: no architecture is named, or a kernel is nowhere to be found and cannot be compiled here.
    """
    if not settings.architectures:
        raise BackendError("kernels for no board; name compute capabilities with --arch, such as 87 for an Orin")
    series = any(modality.kind == "series" for modality in plan.manifest.modalities)
    parts = float_parts(plan, cut=settings.cut and series)
    attention, arrays = _attention(parts.attention)
    kernels, files = _kernels(plan, settings, None, attention=attention_shapes(parts))
    return kernels, attention, {**arrays, **files}


def _compiler(
    flavour: Flavour, settings: BuildSettings, machine: BuildMachine | None, progress: Progress | None
) -> tuple[Compiler, tuple[str, ...]]:
    """A compiler within the memory that is free, with the timings of earlier builds on this machine."""
    scratch, timings = _HOST_WORKSPACE_BYTES, None
    if machine is not None:
        scratch = workspace(
            machine.free_bytes,
            total_bytes=machine.total_bytes,
            integrated=machine.integrated,
            available_host_bytes=available_host_bytes(),
        )
        timings = read_timings(machine.name, version=str(flavour))
    compiler = Compiler(
        flavour,
        workspace_bytes=scratch,
        timing_cache=timings.data if timings else None,
        version_compatible=settings.version_compatible,
        progress=progress,
    )
    return compiler, timings.notes if timings else ()


def _keep(compiler: Compiler, flavour: Flavour, machine: BuildMachine | None) -> str | None:
    """Keep what was learnt of timings; gives its hash."""
    data = compiler.timing_cache()
    if not data or machine is None:
        return None
    return keep_timings(data, machine=machine.name, version=str(flavour)).sha256


def _said(warned: Mapping[str, Sequence[str]], *, parts: int) -> list[str]:
    """What TensorRT warned of, each once with the parts that it said it of."""
    lines = []
    for warning, of in warned.items():
        where = "every part" if len(of) == parts else ", ".join(of)
        lines.append(f"TensorRT says of {where}: {warning.strip()}")
    return lines


def _typed(part: FloatPart, precision: PlanPrecision, quantisation: Quantisation | None) -> PartGraph:
    if quantisation is not None:
        part = quantise_part(part, quantisation)
    return write_types(part, precision=_WRITTEN[precision])


def _target(flavour: Flavour, settings: BuildSettings, machine: BuildMachine | None, *, cut: bool) -> str:
    """Unique name of a payload: machine, builder and precision."""
    where = "any" if flavour.name == "tensorrt_rtx" or machine is None else f"sm_{machine.capability}"
    whole = "" if cut or settings.cut else "-whole"
    return f"{where}-{flavour.name}-{flavour.version_text}-{settings.precision}{whole}"


def _kernels(
    plan: Plan,
    settings: BuildSettings,
    machine: BuildMachine | None,
    *,
    attention: Mapping[str, AttentionShape],
) -> tuple[tuple[KernelPayload, ...], dict[str, bytes]]:
    requests = plan_requests(plan.manifest, attention=attention, precision=settings.precision, dates=settings.dates)
    own = (kernel_capability(machine.capability),) if machine else ()
    wanted = sorted({*own, *settings.architectures}) or list(RTX_ARCHITECTURES)
    found = collect_kernels(requests, capabilities=wanted, plan=plan, folder=settings.kernels)
    payloads, members = [], dict[str, bytes]()
    for capability in wanted:
        payload, files = kernel_members([each for each in found if each.record.capability == capability], capability)
        payloads.append(payload)
        members |= files
    return tuple(payloads), members


def _attention(
    found: Mapping[str, AttentionArrays],
) -> tuple[tuple[AttentionWeights, ...], dict[str, bytes]]:
    weights, members = [], dict[str, bytes]()
    for series, arrays in found.items():
        names = [field.name for field in fields(arrays) if field.name != "period"]
        files = {name: f"attention/{series}/{name}.npy" for name in names}
        members |= {files[name]: _npy(getattr(arrays, name)) for name in names}
        weights.append(AttentionWeights(series=series, period=arrays.period, **files))
    return tuple(weights), members


def _npy(array: NDArray[np.float32]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.ascontiguousarray(array, np.float32), allow_pickle=False)
    return buffer.getvalue()
