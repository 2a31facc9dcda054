"""The part of TensorRT's Python interface that is used here, and nothing beside it.

Its modules have no type stubs, and which of them is installed is known only when the program runs. These protocols make
a type checker refuse whatever is not listed; a test looks up all that is listed in the real modules. Classes of objects
carry TensorRT's own names; enums are named in the plural, and `TensorRT` itself is the module. Not every version and
flavour has all of it: `capabilities` says which.
"""

# ruff: noqa: D102  TensorRT documents its methods

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

__all__ = [
    "Builder",
    "Enumerator",
    "IBuilderConfig",
    "ICudaEngine",
    "IExecutionContext",
    "IHostMemory",
    "ILogger",
    "INetworkDefinition",
    "IOptimizationProfile",
    "IProgressMonitor",
    "IRuntimeConfig",
    "ITensor",
    "ITimingCache",
    "OnnxParser",
    "ParserError",
    "Runtime",
    "Shape",
    "TensorRT",
]

Dims = Iterable[int]
Shape = tuple[int, ...]


class Enumerator(Protocol):
    """One value of an enum."""

    def __int__(self) -> int: ...


class DataTypes(Protocol):
    """Types of elements."""

    FLOAT: Enumerator
    HALF: Enumerator
    BF16: Enumerator


class TensorIOModes(Protocol):
    """Whether a tensor goes in or comes out."""

    INPUT: Enumerator
    OUTPUT: Enumerator


class TensorLocations(Protocol):
    """Where a tensor lies."""

    DEVICE: Enumerator


class TensorFormats(Protocol):
    """How a tensor lies."""

    LINEAR: Enumerator


class MemoryPoolTypes(Protocol):
    """Memory that a build bounds."""

    WORKSPACE: Enumerator


class BuilderFlags(Protocol):
    """What a build may be told; none of them is a precision."""

    TF32: Enumerator
    VERSION_COMPATIBLE: Enumerator
    REQUIRE_USER_ALLOCATION: Enumerator


class NetworkDefinitionCreationFlags(Protocol):
    """How a network is made."""

    STRONGLY_TYPED: Enumerator


class ExecutionContextAllocationStrategies(Protocol):
    """Who brings the memory of activations."""

    USER_MANAGED: Enumerator


class DynamicShapesKernelSpecializationStrategies(Protocol):
    """When TensorRT-RTX compiles kernels for the shapes at hand."""

    EAGER: Enumerator


class ComputeCapabilities(Protocol):
    """Kinds of GPU that TensorRT-RTX compiles for; the version says which of `SM75`, `SM80`, ... there are."""


class ILogger(Protocol):
    """Takes messages; to be derived from."""

    ERROR: Enumerator
    WARNING: Enumerator
    INFO: Enumerator
    VERBOSE: Enumerator

    def log(self, severity: Enumerator, text: str, /) -> None: ...


class IProgressMonitor(Protocol):
    """Hears how far a build has come, and may stop it; to be derived from."""

    def phase_start(self, phase: str, parent: str | None, steps: int, /) -> None: ...

    def phase_finish(self, phase: str, /) -> None: ...

    def step_complete(self, phase: str, step: int, /) -> bool: ...


class IHostMemory(Protocol):
    """Bytes that TensorRT made."""

    nbytes: int

    def __buffer__(self, flags: int, /) -> memoryview: ...


class ITensor(Protocol):
    """An input or output of a network."""

    name: str
    dtype: Enumerator
    shape: Dims


class INetworkDefinition(Protocol):
    """A parsed network."""

    name: str
    num_inputs: int
    num_layers: int
    num_outputs: int

    def get_input(self, index: int, /) -> ITensor: ...

    def get_output(self, index: int, /) -> ITensor: ...


class IOptimizationProfile(Protocol):
    """Shapes that an engine is compiled for."""

    def set_shape(self, name: str, least: Shape, usual: Shape, most: Shape, /) -> None: ...


class ITimingCache(Protocol):
    """How long each way to compute each layer took."""

    def serialize(self) -> IHostMemory: ...


class IBuilderConfig(Protocol):
    """Settings of one build."""

    max_aux_streams: int
    num_compute_capabilities: int
    progress_monitor: IProgressMonitor | None

    def set_memory_pool_limit(self, pool: Enumerator, nbytes: int, /) -> None: ...

    def set_flag(self, flag: Enumerator, /) -> None: ...

    def clear_flag(self, flag: Enumerator, /) -> None: ...

    def add_optimization_profile(self, profile: IOptimizationProfile, /) -> int: ...

    def create_timing_cache(self, serialised: bytes, /) -> ITimingCache: ...

    def set_timing_cache(self, cache: ITimingCache, ignore_mismatch: bool, /) -> bool: ...

    def set_compute_capability(self, capability: Enumerator, index: int, /) -> bool: ...


class Builder(Protocol):
    """Makes networks, settings and engines."""

    def create_network(self, flags: int, /) -> INetworkDefinition: ...

    def create_builder_config(self) -> IBuilderConfig: ...

    def create_optimization_profile(self) -> IOptimizationProfile: ...

    def build_serialized_network(
        self, network: INetworkDefinition, config: IBuilderConfig, /
    ) -> IHostMemory | None: ...


class ParserError(Protocol):
    """What the parser did not like."""

    def desc(self) -> str: ...

    def node_name(self) -> str: ...

    def node_operator(self) -> str: ...


class OnnxParser(Protocol):
    """Reads ONNX into a network."""

    num_errors: int

    def parse(self, model: bytes, /) -> bool: ...

    def get_error(self, index: int, /) -> ParserError: ...


class IExecutionContext(Protocol):
    """What runs an engine with certain shapes."""

    def set_optimization_profile_async(self, profile: int, stream: int, /) -> bool: ...

    def set_input_shape(self, name: str, shape: Shape, /) -> bool: ...

    def infer_shapes(self) -> Sequence[str]: ...

    def get_tensor_shape(self, name: str, /) -> Dims: ...

    def set_device_memory(self, address: int, nbytes: int, /) -> None: ...

    def set_tensor_address(self, name: str, address: int, /) -> bool: ...

    def execute_async_v3(self, stream: int, /) -> bool: ...

    def is_stream_capturable(self, stream: int, /) -> bool: ...


class IRuntimeConfig(Protocol):
    """Settings of a context."""

    dynamic_shapes_kernel_specialization_strategy: Enumerator

    def set_execution_context_allocation_strategy(self, strategy: Enumerator, /) -> None: ...


class ICudaEngine(Protocol):
    """A compiled network on a GPU."""

    name: str
    device_memory_size_v2: int
    num_io_tensors: int
    num_optimization_profiles: int

    def get_tensor_name(self, index: int, /) -> str: ...

    def get_tensor_mode(self, name: str, /) -> Enumerator: ...

    def get_tensor_dtype(self, name: str, /) -> Enumerator: ...

    def get_tensor_shape(self, name: str, /) -> Dims: ...

    def get_tensor_location(self, name: str, /) -> Enumerator: ...

    def get_tensor_format(self, name: str, profile: int, /) -> Enumerator: ...

    def get_tensor_profile_shape(self, name: str, profile: int, /) -> Sequence[Dims]: ...

    def create_runtime_config(self) -> IRuntimeConfig: ...

    def create_execution_context(self, how: Enumerator | IRuntimeConfig, /) -> IExecutionContext | None: ...


class Runtime(Protocol):
    """Loads engines."""

    engine_host_code_allowed: bool

    def deserialize_cuda_engine(self, serialised: bytes | memoryview, /) -> ICudaEngine | None: ...


NewBuilder = Callable[[ILogger], Builder]
NewParser = Callable[[INetworkDefinition, ILogger], OnnxParser]
NewRuntime = Callable[[ILogger], Runtime]
LoggerClass = ILogger
MonitorClass = IProgressMonitor


class TensorRT(Protocol):
    """The module."""

    __version__: str

    Builder: NewBuilder
    OnnxParser: NewParser
    Runtime: NewRuntime
    ILogger: LoggerClass
    IProgressMonitor: MonitorClass

    BuilderFlag: BuilderFlags
    ComputeCapability: ComputeCapabilities
    DataType: DataTypes
    DynamicShapesKernelSpecializationStrategy: DynamicShapesKernelSpecializationStrategies
    ExecutionContextAllocationStrategy: ExecutionContextAllocationStrategies
    MemoryPoolType: MemoryPoolTypes
    NetworkDefinitionCreationFlag: NetworkDefinitionCreationFlags
    TensorFormat: TensorFormats
    TensorIOMode: TensorIOModes
    TensorLocation: TensorLocations
