"""The runtime's side: engines, contexts, runs on simulated streams."""

from __future__ import annotations

import weakref
from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

import numpy as np
import onnx

from . import graph
from .container import Container, unpack
from .settings import SETTINGS, allocate, device_capability, free
from .values import (
    DataType,
    ExecutionContextAllocationStrategy,
    ILogger,
    TensorFormat,
    TensorIOMode,
    TensorLocation,
    Voice,
)

__all__ = [
    "ICudaEngine",
    "IExecutionContext",
    "IRuntimeConfig",
    "RtxCudaEngine",
    "RtxExecutionContext",
    "Runtime",
    "runtime_of",
]

_ITEM = {DataType.FLOAT: 4, DataType.HALF: 2, DataType.BF16: 2}
_ALIGNMENT = 256
_LOAD = "IRuntime::deserializeCudaEngine: Error Code"
_ENQUEUE = "IExecutionContext::enqueueV3: Error Code 3: API Usage Error (Parameter check failed, condition: "


class Runtime:
    engine_host_code_allowed: bool
    _package = "tensorrt"

    def __init__(self, logger: ILogger) -> None:
        self.engine_host_code_allowed = False
        self._voice = Voice(logger, "createInferRuntime")

    def deserialize_cuda_engine(self, serialized_engine: bytes) -> ICudaEngine | None:
        container = unpack(bytes(serialized_engine))
        refusal = self._refusal(container)
        if container is None or refusal:
            self._voice.error(refusal)
            return None
        weights = allocate(max(len(container.model), 1))
        if weights is None:
            self._voice.error(f"{_LOAD} 2: OutOfMemory (Requested size was {len(container.model)} bytes.)")
            return None
        made = RtxCudaEngine if self._package == "tensorrt_rtx" else ICudaEngine
        return made(container, self, weights)

    def _refusal(self, container: Container | None) -> str:
        """The real one's words for what it does not take; empty where it takes it."""
        own = SETTINGS.versions[self._package]
        flavour = "tensorrt_rtx" if self._package == "tensorrt_rtx" else "tensorrt"
        if container is None or container.flavour != flavour:
            return (
                f"{_LOAD} 1: Serialization (Serialization assertion magicTagRead == kMAGIC_TAG failed."
                "Magic tag does not match)"
            )
        if container.lean:
            if not self.engine_host_code_allowed:
                return (
                    f"{_LOAD} 9: Cannot deserialize engine with lean runtime since "
                    "IRuntime::getEngineHostCodeAllowed() is false."
                )
        elif self._package in ("tensorrt_lean", "tensorrt_dispatch"):
            return f"{_LOAD} 1: Internal Error (Unexpected call to stub loadRunner for ReformatRunner)"
        elif container.version != own:
            return (
                f"{_LOAD} 6: API Usage Error (The engine plan file is not compatible with this version of TensorRT, "
                f"expecting library version {own} got {container.version}, please rebuild.)"
            )
        capability = device_capability()
        if capability is None:
            return f"{_LOAD} 1: Cuda Runtime (no CUDA-capable device is detected)"
        if capability not in container.capabilities:
            return (
                f"{_LOAD} 6: API Usage Error (The engine plan file is generated on an incompatible device, expecting "
                f"compute {capability / 10} got compute {container.capabilities[0] / 10}, please rebuild.)"
            )
        return ""


class ICudaEngine:
    device_memory_size_v2: int
    name: str
    num_io_tensors: int
    num_optimization_profiles: int

    def __init__(self, container: Container, runtime: Runtime, weights: int) -> None:
        self.name = container.name
        self.num_optimization_profiles = len(container.profiles)
        inputs, outputs = graph.doors(onnx.load_model_from_string(container.model))
        self._container = container
        self._runtime = runtime
        self._voice = runtime._voice
        self._tensors = {name: (kind, shape) for name, kind, shape in (*inputs, *outputs)}
        self._inputs = [name for name, _, _ in inputs]
        self.num_io_tensors = len(self._tensors)
        self.device_memory_size_v2 = max(map(self._activations, range(len(container.profiles))))
        weakref.finalize(self, free, weights).atexit = False

    def get_tensor_name(self, index: int) -> str:
        return list(self._tensors)[index]

    def get_tensor_mode(self, name: str) -> TensorIOMode:
        if name not in self._tensors:
            return TensorIOMode.NONE
        return TensorIOMode.INPUT if name in self._inputs else TensorIOMode.OUTPUT

    def get_tensor_dtype(self, name: str) -> DataType:
        return self._tensors[name][0]

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return self._tensors[name][1]

    def get_tensor_location(self, name: str) -> TensorLocation:
        return TensorLocation.DEVICE

    def get_tensor_format(self, name: str, profile_index: int = 0) -> TensorFormat:
        return TensorFormat.LINEAR

    def get_tensor_profile_shape(self, name: str, profile_index: int) -> list[tuple[int, ...]]:
        return [tuple(self._container.profiles[profile_index][name])] * 3

    def create_execution_context(self, strategy: Any) -> IExecutionContext | None:
        if strategy is not ExecutionContextAllocationStrategy.USER_MANAGED:
            self._voice.error("this simulation has no memory of its own for activations")
            return None
        return IExecutionContext(self)

    def _activations(self, profile: int) -> int:
        """Bytes that a run needs beside its doors: as many as its inputs have, in blocks, and one block more."""
        shapes = self._container.profiles[profile]
        nbytes = sum(prod(shape) * _ITEM[self._tensors[name][0]] for name, shape in shapes.items())
        return (nbytes // _ALIGNMENT + 2) * _ALIGNMENT


class IExecutionContext:
    def __init__(self, engine: ICudaEngine) -> None:
        self._engine = engine
        self._voice = engine._voice
        self._profile: int | None = None
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._outputs: dict[str, tuple[int, ...]] = {}
        self._addresses: dict[str, int] = {}
        self._memory: tuple[int, int] | None = None

    def set_optimization_profile_async(self, profile_index: int, stream_handle: int) -> bool:
        if not 0 <= profile_index < self._engine.num_optimization_profiles:
            self._voice.error("IExecutionContext::setOptimizationProfileAsync: Error Code 3: no such profile")
            return False
        self._profile = profile_index
        self._shapes, self._outputs = {}, {}
        return True

    def set_input_shape(self, name: str, shape: Sequence[int]) -> bool:
        assert self._profile is not None
        if tuple(shape) != self._engine.get_tensor_profile_shape(name, self._profile)[1]:
            self._voice.error(
                "IExecutionContext::setInputShape: Error Code 3: API Usage Error (Supplied binding dimension "
                f"{list(shape)} for bindings[0] exceed min ~ max range of profile {self._profile})"
            )
            return False
        self._shapes[name] = tuple(shape)
        return True

    def infer_shapes(self) -> list[str]:
        missing = [name for name in self._engine._inputs if name not in self._shapes]
        if not missing:
            self._outputs = graph.output_shapes(self._engine._container.model, self._shapes)
        return missing

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return (self._shapes | self._outputs).get(name, self._engine.get_tensor_shape(name))

    def set_device_memory(self, memory: int, size: int) -> None:
        if memory % _ALIGNMENT:
            self._voice.error(f"setDeviceMemory: memory must be aligned on {_ALIGNMENT} bytes")
        elif size < self._engine.device_memory_size_v2:
            needed = self._engine.device_memory_size_v2
            self._voice.error(
                f"setDeviceMemoryV2: The provided memory size is too small. Provided {size}, required {needed}"
            )
        else:
            self._memory = (memory, size)

    def set_tensor_address(self, name: str, memory: int) -> bool:
        if name not in self._engine._tensors:
            self._voice.error(f"IExecutionContext::setTensorAddress: Error Code 3: given invalid tensor name: {name}")
            return False
        self._addresses[name] = memory
        return True

    def execute_async_v3(self, stream_handle: int) -> bool:
        if not self._ready():
            return False
        engine, model, engine_name = self._engine, self._engine._container.model, self._engine.name
        # a graph that captures this keeps what is bound now
        shapes, outputs, addresses = dict(self._shapes), dict(self._outputs), dict(self._addresses)
        assert self._memory is not None
        assert self._profile is not None
        scratch = (self._memory[0], engine._activations(self._profile))
        sizes = {name: prod((shapes | outputs)[name]) * _ITEM[kind] for name, (kind, _) in engine._tensors.items()}

        alive = weakref.ref(self)

        def work() -> None:
            if alive() is None:
                raise RuntimeError(f"a context of {engine_name} went before its run was done")
            _run(model, shapes, sizes, addresses, scratch)

        control = _control()
        try:
            control.enqueue(stream_handle, work, name=f"engine {engine_name}")
        except control.DriverError as error:
            self._voice.error(f"IExecutionContext::enqueueV3: Error Code 1: Cuda Runtime ({error})")
            return False
        return True

    def _ready(self) -> bool:
        if self._profile is None or not self._outputs:
            self._voice.error(f"{_ENQUEUE}allInputDimensionsSpecified(). Not all input dimensions were specified.)")
        elif missing := [name for name in self._engine._tensors if not self._addresses.get(name)]:
            self._voice.error(
                f"{_ENQUEUE}mContext.profileObliviousBindings.at(profileObliviousIndex) != nullptr. Address is not set "
                f"for input tensor {missing[0]}. Call setInputTensorAddress or setTensorAddress before enqueue/execute)"
            )
        elif self._memory is None:
            self._voice.error(
                f"{_ENQUEUE}mContext.memory. The context requires {self._engine.device_memory_size_v2} bytes of device "
                "memory. The IExecutionContext is created with ExecutionContextAllocationStrategy::kUSER_MANAGED. "
                "IExecutionContext::setDeviceMemoryV2 should be called before enqueue/execute.)"
            )
        else:
            return True
        return False


class IRuntimeConfig:
    dynamic_shapes_kernel_specialization_strategy: Any

    def __init__(self) -> None:
        self.dynamic_shapes_kernel_specialization_strategy = None
        self._strategy: Any = ExecutionContextAllocationStrategy.STATIC

    def set_execution_context_allocation_strategy(
        self, strategy: Any = ExecutionContextAllocationStrategy.STATIC
    ) -> None:
        self._strategy = strategy


class RtxExecutionContext(IExecutionContext):
    def is_stream_capturable(self, stream: int) -> bool:
        return bool(self._outputs)


class RtxCudaEngine(ICudaEngine):
    def create_runtime_config(self) -> IRuntimeConfig:
        return IRuntimeConfig()

    def create_execution_context(self, strategy: Any) -> IExecutionContext | None:
        if isinstance(strategy, IRuntimeConfig):
            return None if super().create_execution_context(strategy._strategy) is None else RtxExecutionContext(self)
        return super().create_execution_context(strategy)


RtxCudaEngine.__name__ = "ICudaEngine"
RtxExecutionContext.__name__ = "IExecutionContext"


def runtime_of(package: str) -> type[Runtime]:
    """The class `Runtime` of a package."""
    return type("Runtime", (Runtime,), {"_package": package})


def _run(
    model: bytes,
    shapes: Mapping[str, tuple[int, ...]],
    sizes: Mapping[str, int],
    addresses: Mapping[str, int],
    scratch: tuple[int, int],
) -> None:
    """What a run does when the stream comes to it."""
    control = _control()
    inputs = {name: np.array(control.memory(addresses[name], sizes[name])) for name in shapes}
    # activations: all bytes set, NaN in every type; whoever shares this memory at a wrong moment sees it
    control.memory(*scratch)[:] = 0xFF
    for name, values in graph.run(model, inputs, shapes=shapes).items():
        control.memory(addresses[name], sizes[name])[:] = np.frombuffer(values, np.uint8)


def _control() -> Any:
    from tests.simulated_cuda import control

    return control
