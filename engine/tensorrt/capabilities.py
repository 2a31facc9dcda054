"""What each flavour and version of TensorRT has, of the calls, enums and flags that are used here.

`api` lists them. All of it is in every version that is served, but for what `SINCE` says; a call that a version lacks
is never made. Precisions and calibrators are in no version's list: networks are strongly typed everywhere, and TensorRT
11 has no other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

__all__ = ["PACKAGES", "SINCE", "FlavourName", "Package", "Version", "has"]

Version = tuple[int, ...]

FlavourName = Literal["tensorrt", "tensorrt_rtx"]
"""What a payload records: engines of one flavour run on packages of the same flavour alone."""


@dataclass(frozen=True)
class Package:
    """A Python package of TensorRT.

    Attributes:
        name: that it is imported by.
        flavour: that it belongs to.
        oldest: version that is served.
        before: first version that is not: TensorRT takes calls away with a new major version only.
        builds: whether it compiles engines.
        runs_any: whether it runs engines that are not version-compatible.
        install: what a user does who lacks it.
    """

    name: str
    flavour: FlavourName
    oldest: Version
    before: Version
    builds: bool
    runs_any: bool
    install: str


_FROM_JETPACK = (
    "pip install 'uperfuse[tensorrt]' on x86-64; boards have it from JetPack: make the virtual environment with "
    "--system-site-packages"
)

PACKAGES: Mapping[str, Package] = {
    package.name: package
    for package in (
        Package("tensorrt", "tensorrt", (10, 3), (12,), True, True, _FROM_JETPACK),
        Package("tensorrt_lean", "tensorrt", (10, 3), (12,), False, False, "pip install tensorrt-lean"),
        Package("tensorrt_dispatch", "tensorrt", (10, 3), (12,), False, False, "pip install tensorrt-dispatch"),
        Package("tensorrt_rtx", "tensorrt_rtx", (1, 4), (2,), True, True, "pip install 'uperfuse[rtx]'"),
    )
}
"""Packages by name, in the order in which they are looked for."""

_BUILDERS: Mapping[str, Version] = {"tensorrt": (10, 3), "tensorrt_rtx": (1, 4)}
_TENSORRT: Mapping[str, Version] = {"tensorrt": (10, 3)}
_RTX: Mapping[str, Version] = {"tensorrt_rtx": (1, 4)}

SINCE: Mapping[str, Mapping[str, Version]] = {
    # the lean and dispatch runtimes hold no builder
    "BuilderFlag": _BUILDERS,
    "Builder": _BUILDERS,
    "IBuilderConfig": _BUILDERS,
    "IHostMemory": _BUILDERS,
    "INetworkDefinition": _BUILDERS,
    "IOptimizationProfile": _BUILDERS,
    "IProgressMonitor": _BUILDERS,
    "ITensor": _BUILDERS,
    "MemoryPoolType": _BUILDERS,
    "NetworkDefinitionCreationFlag": _BUILDERS,
    "OnnxParser": _BUILDERS,
    "ParserError": _BUILDERS,
    # they tell the format of a tensor, and have no name for it
    "ICudaEngine.get_tensor_format": _BUILDERS,
    "TensorFormat": _BUILDERS,
    # TensorRT-RTX times nothing when it builds: its timing cache does nothing, and asks for a GPU
    "ITimingCache": _TENSORRT,
    "IBuilderConfig.create_timing_cache": _TENSORRT,
    "IBuilderConfig.set_timing_cache": _TENSORRT,
    # it ships no lean runtime that an engine could carry with it
    "BuilderFlag.VERSION_COMPATIBLE": _TENSORRT,
    # it compiles for GPUs that are not there
    "ComputeCapability": _RTX,
    "IBuilderConfig.num_compute_capabilities": _RTX,
    "IBuilderConfig.set_compute_capability": _RTX,
    # it finishes kernels when an engine is loaded, and must be told to do so before a stream is captured
    "BuilderFlag.REQUIRE_USER_ALLOCATION": _RTX,
    "DynamicShapesKernelSpecializationStrategy": _RTX,
    "ICudaEngine.create_runtime_config": _RTX,
    "IExecutionContext.is_stream_capturable": _RTX,
    "IRuntimeConfig": _RTX,
}
"""Name -> the packages that have it -> since which version. A class's name speaks for its members as well."""


def has(package: str, *, version: Version, name: str) -> bool:
    """Whether a version of a package has a class, or a member of it written `Class.member`.

    Args:
        package: one of `PACKAGES`.
        version: its version.
        name: of `api`.
    """
    rules = [SINCE[part] for part in (name, name.split(".")[0]) if part in SINCE]
    return all(package in since and version >= since[package] for since in rules)
