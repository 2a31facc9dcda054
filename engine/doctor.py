"""What this machine has for running plans, and which payloads of a plan would run on it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from . import _native
from .backends.cuda.choose import Fit, fits
from .backends.cuda.driver import Device, device_count
from .errors import BackendError
from .plan.plan import Plan
from .tensorrt import find_flavour
from .trust import may_run_engines

__all__ = ["Finding", "Gpu", "examine", "examine_plan", "gpus"]

_RESOURCE = re.compile(r"libnvinfer_builder_resource(?:_win)?_sm(\d+)[._]")
_RELEASE = Path("/etc/nv_tegra_release")
_PACKAGES = Path("/var/lib/dpkg/status")


@dataclass(frozen=True)
class Finding:
    """One thing that was looked for.

    Attributes:
        what: it is.
        found: in words.
        good: whether it can be used; None where that is no question.
    """

    what: str
    found: str
    good: bool | None = None


@dataclass(frozen=True)
class Gpu:
    """A GPU as the driver tells of it."""

    ordinal: int
    name: str
    capability: int
    integrated: bool
    free_bytes: int
    total_bytes: int
    driver_version: tuple[int, int]


def examine() -> list[Finding]:
    """Look at everything that running a plan may need; nothing is changed."""
    return [
        Finding("processor", f"{os.cpu_count()} cores, loops for {', '.join(_native.levels())}"),
        _package("openvino", "runs plans on the processor"),
        *_driver(),
        *_jetpack(),
        _tensorrt("tensorrt"),
        _tensorrt("rtx"),
        *_architectures(),
        _package("onnx", "builds plans"),
        _package("nncf", "builds 8-bit plans for processors"),
        _package("triton", "compiles kernels for plans"),
    ]


def gpus() -> list[Gpu]:
    """Every GPU of the driver.

    Raises:
        BackendError: PyCUDA or the driver is missing, or a GPU does not answer.
    """
    found = []
    for ordinal in range(device_count()):
        device = Device(ordinal)
        try:
            with device.current():
                free, total = device.free_bytes()
            found.append(
                Gpu(ordinal, device.name, device.capability, device.integrated, free, total, device.driver_version)
            )
        finally:
            device.release()
    return found


def examine_plan(plan: Plan) -> tuple[Fit, ...]:
    """Compare every payload of a plan with this machine, and with whom it trusts.

    Args:
        plan: an open plan.
    """
    try:
        found = gpus()
    except BackendError:
        found = []
    judged = may_run_engines(plan)
    capability = found[0].capability if found else None
    return fits(plan.manifest, capability=capability, untrusted=None if judged.allowed else judged.reason)


def _driver() -> Iterator[Finding]:
    """PyCUDA, the driver and its GPUs."""
    try:
        found = gpus()
    except BackendError as error:
        yield Finding("GPU", str(error), good=False)
        return
    if not found:
        yield Finding("GPU", "the driver finds none", good=False)
    for gpu in found:
        kind = "shares the host's memory" if gpu.integrated else "memory of its own"
        free = f"{gpu.free_bytes / 1e9:.1f} of {gpu.total_bytes / 1e9:.1f} GB free"
        yield Finding(f"cuda:{gpu.ordinal}", f"{gpu.name}, sm_{gpu.capability}, {free}, {kind}", good=True)
    if found:
        major, minor = found[0].driver_version
        yield Finding("driver", f"for CUDA {major}.{minor}", good=True)


def _jetpack() -> Iterator[Finding]:
    """What a Jetson board says of its system."""
    if not _RELEASE.exists():
        return
    text = _RELEASE.read_text(encoding="utf-8", errors="replace")
    match = re.search(r"R(\d+) \(release\), REVISION: ([\d.]+)", text)
    words = f"Jetson Linux {match[1]}.{match[2]}" if match else text.splitlines()[0][:80]
    package = re.search(r"^Package: nvidia-jetpack\n(?:.+\n)*?Version: (\S+)", _read(_PACKAGES), flags=re.MULTILINE)
    yield Finding("JetPack", f"{package[1]}, {words}" if package else words, good=True)


def _tensorrt(asked: str) -> Finding:
    what = "TensorRT-RTX" if asked == "rtx" else "TensorRT"
    try:
        flavour = find_flavour("rtx" if asked == "rtx" else "tensorrt", need="run", version_compatible=True)
    except BackendError as error:
        return Finding(what, str(error).partition(": ")[2] or str(error), good=False)
    does = "builds and runs engines" if flavour.builds else "runs engines"
    kinds = "" if flavour.runs_any else ", version-compatible ones alone"
    return Finding(what, f"{flavour}, {does}{kinds}", good=True)


def _architectures() -> Iterator[Finding]:
    """For which GPUs TensorRT's libraries hold what its builder needs; they say so in their names."""
    found = sorted({int(match[1]) for name in _library_names() if (match := _RESOURCE.match(name))})
    if found:
        yield Finding("TensorRT's libraries", f"build for {', '.join(f'sm_{each}' for each in found)}")


def _library_names() -> Iterator[str]:
    folders = [Path(folder) for folder in os.environ.get("LD_LIBRARY_PATH", "").split(os.pathsep) if folder]
    folders += [Path("/usr/lib") / f"{os.uname().machine}-linux-gnu"] if hasattr(os, "uname") else []
    spec = find_spec("tensorrt_libs")
    folders += [Path(place) for place in (spec.submodule_search_locations or ())] if spec else []
    for folder in folders:
        yield from _names(folder)


def _names(folder: Path) -> Iterable[str]:
    try:
        return [path.name for path in folder.iterdir()]
    except OSError:
        return []


def _package(name: str, does: str) -> Finding:
    try:
        return Finding(name, f"{version(name)}, {does}", good=True)
    except PackageNotFoundError:
        return Finding(name, f"is not installed; it {does}", good=False)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
