"""A simulated TensorRT, for where there is no GPU: its Python interface, as far as the engine uses it, on the CPU.

An engine is the ONNX that it was built from; running one runs that graph on the addresses that were bound, when the
simulated stream comes to it. What the real one refuses is refused with the real one's words. No name is offered that
the real one lacks in any version that is served; a test compares them.

`tensorrt` beside this folder is made of it; `others/` holds the other packages, which a test puts on its path when it
wants them.
"""

from __future__ import annotations

import sys
from typing import Any

from . import build, run, values
from .settings import SETTINGS

__all__ = ["SETTINGS", "configure", "offer"]

_RUN = (run.ICudaEngine, run.IExecutionContext, run.Runtime, values.ILogger)
_BUILD = (
    build.Builder,
    build.IBuilderConfig,
    build.IHostMemory,
    build.INetworkDefinition,
    build.IOptimizationProfile,
    build.IProgressMonitor,
    build.ITensor,
    build.OnnxParser,
    build.ParserError,
    values.BuilderFlag,
    values.MemoryPoolType,
    values.NetworkDefinitionCreationFlag,
    values.TensorFormat,
)
_ENUMS = (
    values.DataType,
    values.ExecutionContextAllocationStrategy,
    values.TensorIOMode,
    values.TensorLocation,
)


def offer(package: str) -> dict[str, Any]:
    """Names of a package's module.

    Args:
        package: "tensorrt", "tensorrt_lean", "tensorrt_dispatch" or "tensorrt_rtx".
    """
    found: dict[str, Any] = {"__version__": SETTINGS.versions[package], "Runtime": run.runtime_of(package)}
    classes = [*_RUN, *_ENUMS]
    if package in ("tensorrt", "tensorrt_rtx"):
        classes += _BUILD
        found["Builder"] = build.builder_of(package)
    if package == "tensorrt":
        classes.append(build.ITimingCache)
    if package == "tensorrt_rtx":
        classes += [
            build.RtxBuilderConfig,
            run.IRuntimeConfig,
            run.RtxCudaEngine,
            run.RtxExecutionContext,
            values.ComputeCapability,
            values.DynamicShapesKernelSpecializationStrategy,
            values.RtxBuilderFlag,
        ]
    return {each.__name__: each for each in classes} | found


def configure(*, package: str = "tensorrt", version: str | None = None, capability: int | None = None) -> None:
    """Be another version, or say what GPU there is.

    Args:
        package: whose version.
        version: "10.3.0" until told otherwise.
        capability: of the GPU, 87 for 8.7; None asks the driver.
    """
    if version is not None:
        SETTINGS.versions[package] = version
        if sys.modules.get(package) is not None:
            sys.modules[package].__version__ = version
    if capability is not None:
        SETTINGS.capability = capability
