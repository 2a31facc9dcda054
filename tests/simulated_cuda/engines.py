"""Plans with engines, built by the project's own builder on the simulated driver."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from unittest.mock import patch

from tests.plan_cache import ROOT
from uperfuse.engine import Plan
from uperfuse.engine.backends.cuda.driver import Device
from uperfuse.engine.builder import parts
from uperfuse.engine.builder.build import build_plan
from uperfuse.engine.builder.kernels import attention_shapes
from uperfuse.engine.builder.settings import BuildSettings
from uperfuse.engine.launching import AttentionShape, KernelFiles, KernelRequest, kernel_stem, plan_requests
from uperfuse.kernels.build import compile_requests

from . import control

__all__ = ["compiled", "plan_with_engines", "requests_of"]

CUBINS = ROOT / "build" / "cubins"
_SOURCES = ("kernels/*.py", "kernels/*/kernel.py", "engine/launching/*.py")


def compiled(requests: tuple[KernelRequest, ...], *, capability: int) -> Path:
    """Folder with the real cubins of some requests, whose launches the simulated driver knows from now on.

    Args:
        requests: what is needed; compiled once for all processes.
        capability: of the simulated device.
    """
    digest = hashlib.sha256()
    for path in sorted(path for pattern in _SOURCES for path in (ROOT / "kernels").parent.glob(pattern)):
        digest.update(path.read_bytes())
    folder = CUBINS / digest.hexdigest()[:16]
    missing = [each for each in requests if KernelFiles.read(folder, each, capability=capability) is None]
    if missing:
        # what runs beside this keeps the other cores busy, and each process that compiles takes seconds to begin
        for files in compile_requests(missing, capabilities=[capability], jobs=1):
            _store(folder, files)
    found = [KernelFiles.read(folder, each, capability=capability) for each in requests]
    control.register([each.record for each in found if each is not None])
    return folder


def requests_of(plan: Path, settings: BuildSettings) -> tuple[KernelRequest, ...]:
    """Kernels that a build of a plan needs."""
    with Plan.open(plan) as opened:
        series = any(modality.kind == "series" for modality in opened.manifest.modalities)
        shapes = _attention(plan, opened.hash) if settings.cut and series else {}
        return plan_requests(opened.manifest, attention=shapes, precision=settings.precision, dates=settings.dates)


@lru_cache
def _attention(plan: Path, _hash: str) -> Mapping[str, AttentionShape]:
    """Sizes of a plan's attention. The build, which comes after this, checks the cuts; here that is left out."""
    with Plan.open(plan) as opened, patch.object(parts, "check_cut"):
        return attention_shapes(parts.float_parts(opened, cut=True))


def plan_with_engines(plan: Path, out: Path, *, capability: int = 87, **asked: object) -> Path:
    """Build engines for a plan on the simulated device, which then knows the launches of its kernels.

    Args:
        plan: the plan.
        out: where the plan with the engines goes; where it is already, the launches are made known alone.
        capability: of the simulated device, which is configured already.
        asked: settings of the build.
    """
    settings = BuildSettings(**asked)  # type: ignore[arg-type]
    folder = compiled(requests_of(plan, settings), capability=capability)
    if not out.exists():
        device = Device(0)
        try:
            build_plan(plan, out=out, settings=replace(settings, kernels=folder), device=device)
        finally:
            device.release()
    return out


def _store(folder: Path, files: KernelFiles) -> None:
    """Write a kernel's files; the record, which is looked for, comes last."""
    stem = folder / kernel_stem(files.request, capability=files.record.capability)
    stem.parent.mkdir(parents=True, exist_ok=True)
    for kind in ("cubin", "ptx", "json"):
        path = stem.with_name(f"{stem.name}.{kind}")
        working = path.with_name(f".{path.name}.{os.getpid()}")
        working.write_bytes(files.contents[kind])
        shutil.move(working, path)
