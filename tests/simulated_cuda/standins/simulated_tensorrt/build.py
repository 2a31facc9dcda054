"""The builder's side: networks parsed from ONNX, settings, profiles, engines."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any

import onnx
from google.protobuf.message import DecodeError

from . import graph
from .container import Container, pack
from .settings import SETTINGS, device_capability
from .values import BuilderFlag, DataType, ILogger, NetworkDefinitionCreationFlag, RtxBuilderFlag, Severity, Voice

__all__ = [
    "Builder",
    "IBuilderConfig",
    "IHostMemory",
    "INetworkDefinition",
    "IOptimizationProfile",
    "IProgressMonitor",
    "ITensor",
    "ITimingCache",
    "OnnxParser",
    "ParserError",
    "RtxBuilderConfig",
    "builder_of",
]

Shape = Sequence[int]


class IHostMemory(bytes):
    @property
    def nbytes(self) -> int:
        return len(self)


class IProgressMonitor:
    def __init__(self) -> None:
        self._made = True

    def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
        raise NotImplementedError

    def phase_finish(self, phase_name: str) -> None:
        raise NotImplementedError

    def step_complete(self, phase_name: str, step: int) -> bool:
        raise NotImplementedError


class ITensor:
    name: str
    dtype: DataType
    shape: tuple[int, ...]

    def __init__(self, tensor: graph.Tensor) -> None:
        self.name, self.dtype, self.shape = tensor


class INetworkDefinition:
    name: str
    num_inputs: int
    num_layers: int
    num_outputs: int

    def __init__(self, flags: int, voice: Voice) -> None:
        self.name = "Unnamed Network 0"
        self.num_layers = self.num_inputs = self.num_outputs = 0
        self._flags = flags
        self._voice = voice
        self._doors: tuple[list[ITensor], list[ITensor]] = ([], [])
        self._model = b""
        self._layers: list[str] = []

    def get_input(self, index: int) -> ITensor:
        return self._doors[0][index]

    def get_output(self, index: int) -> ITensor:
        return self._doors[1][index]

    def _fill(self, content: bytes, model: onnx.ModelProto) -> None:
        inputs, outputs = graph.doors(model)
        self._doors = ([ITensor(each) for each in inputs], [ITensor(each) for each in outputs])
        self._model = content
        self._layers = [f"{node.op_type} {node.name}" for node in model.graph.node if node.op_type != "Constant"]
        self.num_inputs, self.num_outputs, self.num_layers = len(inputs), len(outputs), len(self._layers)


class ParserError:
    def __init__(self, text: str, node: onnx.NodeProto | None = None) -> None:
        self._text = text
        self._node = node

    def desc(self) -> str:
        return self._text

    def node_name(self) -> str:
        return "" if self._node is None else self._node.name

    def node_operator(self) -> str:
        return "" if self._node is None else self._node.op_type


class OnnxParser:
    def __init__(self, network: INetworkDefinition, logger: ILogger) -> None:
        self._network = network
        self._logger = logger
        self._errors: list[ParserError] = []

    @property
    def num_errors(self) -> int:
        return len(self._errors)

    def get_error(self, index: int) -> ParserError:
        return self._errors[index]

    def parse(self, model: bytes, path: str | None = None) -> bool:
        content = bytes(model)
        try:
            proto = onnx.load_model_from_string(content)
            graph.doors(proto)
        except (DecodeError, KeyError):
            return self._refuse(ParserError("Failed to parse the ONNX model."))
        if not proto.graph.node:
            return self._refuse(ParserError("Failed to parse the ONNX model."))
        for node in proto.graph.node:
            if not onnx.defs.has(node.op_type, node.domain):
                return self._refuse(
                    ParserError("Plugin not found, are the plugin name, version, and namespace correct?", node)
                )
        try:
            graph.read(content)
        except RuntimeError as error:
            return self._refuse(ParserError(f"Invalid Node - {error}", proto.graph.node[0]))
        self._network._fill(content, proto)
        return True

    def _refuse(self, error: ParserError) -> bool:
        self._errors.append(error)
        self._logger.log(Severity.ERROR, error.desc())
        return False


class IOptimizationProfile:
    def __init__(self) -> None:
        self._shapes: dict[str, tuple[Shape, Shape, Shape]] = {}

    def set_shape(self, input: str, min: Shape, opt: Shape, max: Shape) -> None:  # noqa: A002  TensorRT's names
        if not all(low <= middle <= high for low, middle, high in zip(min, opt, max, strict=True)):
            raise ValueError("Shape provided for min, opt or max is inconsistent with one another.")
        self._shapes[input] = (tuple(min), tuple(opt), tuple(max))

    def __bool__(self) -> bool:
        return bool(self._shapes)


class ITimingCache:
    def __init__(self, data: bytes) -> None:
        self._entries: dict[str, float] = {}
        self._made_by = [SETTINGS.versions["tensorrt"], device_capability()]
        if data:
            try:
                self._made_by, self._entries = json.loads(data)
            except ValueError:
                self._made_by = []

    def serialize(self) -> IHostMemory:
        return IHostMemory(json.dumps([self._made_by, self._entries]).encode())


class IBuilderConfig:
    """Settings of a build with TensorRT itself."""

    max_aux_streams: int
    progress_monitor: IProgressMonitor | None
    _flag_class: Any = BuilderFlag

    def __init__(self, voice: Voice) -> None:
        self.max_aux_streams = -1
        self.progress_monitor = None
        self._voice = voice
        self._flags = {self._flag_class.TF32}
        self._workspace: int | None = None
        self._profiles: list[IOptimizationProfile] = []
        self._cache: ITimingCache | None = None

    def set_memory_pool_limit(self, pool: Any, pool_size: int) -> None:
        self._workspace = pool_size

    def set_flag(self, flag: Any) -> None:
        self._flags.add(self._flag_class(flag))

    def clear_flag(self, flag: Any) -> None:
        self._flags.discard(self._flag_class(flag))

    def add_optimization_profile(self, profile: IOptimizationProfile) -> int:
        if not profile:
            return -1
        self._profiles.append(profile)
        return len(self._profiles) - 1

    def create_timing_cache(self, serialized_timing_cache: bytes) -> ITimingCache:
        return ITimingCache(bytes(serialized_timing_cache))

    def set_timing_cache(self, cache: ITimingCache, ignore_mismatch: bool) -> bool:
        if cache._made_by != [SETTINGS.versions["tensorrt"], device_capability()] and not ignore_mismatch:
            self._voice.error("Timing cache header mismatch: The timing cache will not be used!")
            return False
        self._cache = cache
        return True


class RtxBuilderConfig(IBuilderConfig):
    """Settings of a build with TensorRT-RTX, which compiles for GPUs that are not there and times nothing."""

    num_compute_capabilities: int
    _flag_class = RtxBuilderFlag
    create_timing_cache = None  # type: ignore[assignment]
    set_timing_cache = None  # type: ignore[assignment]

    def __init__(self, voice: Voice) -> None:
        super().__init__(voice)
        self.num_compute_capabilities = 0
        self._capabilities = [86, 89, 120]

    def set_compute_capability(self, compute_capability: Any, index: int) -> bool:
        if index >= self.num_compute_capabilities:
            return False
        self._capabilities = [*self._capabilities[:index], int(compute_capability)]
        return True


RtxBuilderConfig.__name__ = "IBuilderConfig"


class Builder:
    _package = "tensorrt"
    _config_class: type[IBuilderConfig] = IBuilderConfig

    def __init__(self, logger: ILogger) -> None:
        self._voice = Voice(logger, "createInferBuilder")

    def create_network(self, flags: int = 0) -> INetworkDefinition:
        return INetworkDefinition(flags, self._voice)

    def create_builder_config(self) -> IBuilderConfig:
        return self._config_class(self._voice)

    def create_optimization_profile(self) -> IOptimizationProfile:
        return IOptimizationProfile()

    def build_serialized_network(self, network: INetworkDefinition, config: IBuilderConfig) -> IHostMemory | None:
        if not self._can_build(network, config):
            return None
        if not self._work(network, config):
            self._voice.error("IBuilder::buildSerializedNetwork: Error Code 7: BuildCanceled (Build canceled by user)")
            return None
        if config._cache is not None:
            config._cache._entries |= {hashlib.sha256(layer.encode()).hexdigest(): 0.5 for layer in network._layers}
        profiles = [{name: list(shapes[1]) for name, shapes in each._shapes.items()} for each in config._profiles]
        if not profiles:
            profiles = [{each.name: list(each.shape) for each in network._doors[0]}]
        return IHostMemory(
            pack(
                Container(
                    flavour=self._package,
                    version=SETTINGS.versions[self._package],
                    capabilities=self._targets(config),
                    name=network.name,
                    layers=network.num_layers,
                    lean=getattr(self._flags, "VERSION_COMPATIBLE", None) in config._flags,
                    profiles=profiles,
                    workspace=config._workspace or 0,
                    model=network._model,
                )
            )
        )

    @property
    def _flags(self) -> Any:
        return self._config_class._flag_class

    def _targets(self, config: IBuilderConfig) -> list[int]:
        if isinstance(config, RtxBuilderConfig):
            return config._capabilities
        capability = device_capability()
        assert capability is not None
        return [capability]

    def _can_build(self, network: INetworkDefinition, config: IBuilderConfig) -> bool:
        if not network._flags & 1 << int(NetworkDefinitionCreationFlag.STRONGLY_TYPED):
            self._voice.error("this simulation takes strongly typed networks alone")
        elif not isinstance(config, RtxBuilderConfig) and device_capability() is None:
            self._voice.error(
                "IBuilder::buildSerializedNetwork: Error Code 1: Cuda Runtime (no CUDA-capable device is detected)"
            )
        elif config._workspace == 0:
            self._voice.error("Compiling this graph requires workspace memory greater than 0.")
        elif any(-1 in each.shape for each in network._doors[0]) and not config._profiles:
            self._voice.error("Network has dynamic or shape inputs, but no optimization profile has been defined.")
        elif config._flags - {BuilderFlag.VERSION_COMPATIBLE, RtxBuilderFlag.REQUIRE_USER_ALLOCATION}:
            self._voice.error("this simulation computes in float32 where the graph says float32, not in TF32")
        else:
            return True
        return False

    def _work(self, network: INetworkDefinition, config: IBuilderConfig) -> bool:
        """Go through the phases of a build; False when it is told to stop."""
        monitor = config.progress_monitor
        if monitor is None:
            return True
        phases = [("Building engine", None, 2), ("Computing profile costs", "Building engine", network.num_layers)]
        for phase, parent, steps in phases:
            monitor.phase_start(phase, parent, steps)
        going = all(monitor.step_complete(phases[1][0], step) for step in range(network.num_layers))
        monitor.phase_finish(phases[1][0])
        going = going and all(monitor.step_complete(phases[0][0], step) for step in range(2))
        monitor.phase_finish(phases[0][0])
        return going


class _RtxBuilder(Builder):
    _package = "tensorrt_rtx"
    _config_class = RtxBuilderConfig


def builder_of(package: str) -> type[Builder]:
    """The class `Builder` of a package."""
    return _RtxBuilder if package == "tensorrt_rtx" else Builder
