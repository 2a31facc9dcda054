"""The compiled kernels that go into a plan: from the plan itself, from a folder, or compiled here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import BackendError, PlanError
from ..launching import ARCHITECTURES, AttentionShape, KernelFiles, KernelRequest
from ..plan.payloads import CompiledKernel, KernelPayload
from ..plan.plan import Plan

if TYPE_CHECKING:
    from .parts import FloatParts

__all__ = ["attention_shapes", "collect_kernels", "kernel_capability", "kernel_members", "plan_kernels"]

_PORTABLE = (80, 86, 87, 89)
"""Architectures whose PTX later ones run, too: their kernels use nothing that only they have."""

_Wanted = tuple[int, KernelRequest]
_Found = dict[_Wanted, KernelFiles]


def collect_kernels(
    requests: Iterable[KernelRequest],
    *,
    capabilities: Sequence[int],
    plan: Plan,
    folder: Path | None = None,
) -> tuple[KernelFiles, ...]:
    """Find compiled kernels: those that the plan holds already, those in a folder, or else compile them.

    Args:
        requests: what is needed.
        capabilities: architectures, 87 for 8.7, each of which needs all of it.
        plan: an open plan.
        folder: that `python -m uperfuse.kernels.build` made.

    Returns:
        The files, architecture after architecture, in the order of the requests.

    Raises:
        BackendError: a kernel is nowhere to be found and cannot be compiled here; or files of the folder do not belong
            together.
        PlanError: files in the plan do not belong together.
    """
    wanted = [(each, request) for each in dict.fromkeys(capabilities) for request in dict.fromkeys(requests)]
    found = {(each.record.capability, each.request): each for each in plan_kernels(plan, capabilities=capabilities)}
    if folder is not None:
        for capability, request in wanted:
            if (capability, request) not in found:
                files = KernelFiles.read(folder, request, capability=capability)
                if files is not None:
                    found[capability, request] = files
    missing = [each for each in wanted if each not in found]
    if missing:
        found |= _compiled(missing, plan=plan, folder=folder)
    return tuple(found[each] for each in wanted)


def plan_kernels(plan: Plan, *, capabilities: Iterable[int]) -> tuple[KernelFiles, ...]:
    """Compiled kernels that a plan holds.

    Args:
        plan: an open plan.
        capabilities: architectures whose kernels are read.

    Raises:
        PlanError: files in the plan do not belong together.
    """
    wanted = set(capabilities)
    chosen = [payload for payload in plan.manifest.kernels if payload.capability in wanted]
    return tuple(_read(plan, kernel) for payload in chosen for kernel in payload.kernels)


def kernel_members(files: Iterable[KernelFiles], capability: int) -> tuple[KernelPayload, dict[str, bytes]]:
    """Kernels of one architecture as a plan holds them.

    Args:
        files: compiled kernels.
        capability: the architecture that they are compiled for.

    Returns:
        What the manifest says of them, and the members: name -> content.
    """
    kernels, members = [], dict[str, bytes]()
    for each in files:
        assert each.record.capability == capability, f"{each.stem} among the kernels of sm_{capability}"
        names = {kind: f"kernels/{each.stem}.{kind}" for kind in each.contents}
        kernels.append(CompiledKernel(record=names["json"], cubin=names["cubin"], ptx=names["ptx"]))
        members |= {names[kind]: content for kind, content in each.contents.items()}
    return KernelPayload(capability=capability, kernels=tuple(kernels)), members


def kernel_capability(gpu: int) -> int:
    """The architecture whose compiled kernels serve a GPU: its own, or else the latest whose PTX it runs.

    Args:
        gpu: compute capability of the GPU.

    Raises:
        BackendError: the GPU is older than all of them.

    Example:
        >>> kernel_capability(87), kernel_capability(103)
        (87, 89)
    """
    if gpu in ARCHITECTURES:
        return gpu
    earlier = [each for each in _PORTABLE if each < gpu]
    if not earlier:
        raise BackendError(
            f"the GPU is sm_{gpu}, and kernels are compiled for sm_{min(ARCHITECTURES)} or later; run the plan on "
            "device='cpu'"
        )
    return max(earlier)


def attention_shapes(parts: FloatParts) -> dict[str, AttentionShape]:
    """Sizes of the temporal attention of every series whose encoder is cut.

    Args:
        parts: of a plan.
    """
    shapes = {}
    for series, arrays in parts.attention.items():
        *maps, _ = parts.part(f"spatial:{series}").model.graph.output
        shapes[series] = AttentionShape(
            heads=arrays.score.shape[0],
            channels=arrays.score.shape[1],
            embedding=arrays.embed.shape[0],
            summed=tuple(each.type.tensor_type.shape.dim[-1].dim_value for each in maps),
        )
    return shapes


def _read(plan: Plan, kernel: CompiledKernel) -> KernelFiles:
    record, cubin, ptx = (bytes(plan.member(name)) for name in (kernel.record, kernel.cubin, kernel.ptx))
    try:
        return KernelFiles.of(record, cubin=cubin, ptx=ptx, place=kernel.record.removesuffix(".json"))
    except BackendError as error:
        raise PlanError(f"{plan.path}: {error}") from None


def _compiled(missing: Sequence[_Wanted], *, plan: Plan, folder: Path | None) -> _Found:
    """Compile what is missing, with Triton, which is asked for when it is needed."""
    try:
        build: Any = import_module("uperfuse.kernels.build")
    except ModuleNotFoundError as error:
        raise BackendError(_advice(missing, plan, folder, f"{error.name} is not installed")) from None
    found: _Found = {}
    for requests, capabilities in _together(missing).items():
        try:
            files = build.compile_requests(requests, capabilities=capabilities)
        except build.BuildError as error:
            raise BackendError(_advice(missing, plan, folder, str(error))) from error
        found |= {(each.record.capability, each.request): each for each in files}
    return found


def _together(missing: Iterable[_Wanted]) -> Mapping[tuple[KernelRequest, ...], list[int]]:
    """Requests -> the architectures that lack the same ones, so that they are compiled in one go."""
    lacking: dict[int, list[KernelRequest]] = {}
    for capability, request in missing:
        lacking.setdefault(capability, []).append(request)
    together: dict[tuple[KernelRequest, ...], list[int]] = {}
    for capability, requests in lacking.items():
        together.setdefault(tuple(requests), []).append(capability)
    return together


def _advice(missing: Sequence[_Wanted], plan: Plan, folder: Path | None, reason: str) -> str:
    """What is missing for which architecture, where it was looked for, and the three ways to come by it."""
    by_capability: dict[int, list[str]] = {}
    for capability, request in missing:
        by_capability.setdefault(capability, []).append(str(request))
    what = "; ".join(f"sm_{capability}: {', '.join(names)}" for capability, names in by_capability.items())
    where = f"{plan.path}" if folder is None else f"{plan.path} and {folder}"
    architectures = " ".join(map(str, by_capability))
    return (
        f"compiled kernels are not in {where} and cannot be made here ({reason}): {what}; take a plan that holds them, "
        f"or make a folder on another machine by `python -m uperfuse.kernels.build --plan {plan.path} --arch "
        f"{architectures} -o DIR`, with the same --precision, and give it with --kernels-from DIR, or pip install "
        "'uperfuse[train]', which compiles them"
    )
