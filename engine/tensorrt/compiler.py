"""Compiles the graph of a part into an engine.

Networks are strongly typed: the graph says every type, and TensorRT keeps it. Products of float32 are products of
float32: TF32, which TensorRT would allow by itself, is switched off. An engine works on one stream with memory that its
user brings, so that it can be captured into a CUDA graph among other launches.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from ..errors import BackendError
from ..plan.payloads import Door
from .api import Builder, Enumerator, IBuilderConfig, INetworkDefinition, ITimingCache
from .doors import compare_network
from .flavour import Flavour
from .messages import Heard, attempt, messages_of
from .monitor import Interruption, Progress, interruptible, make_monitor
from .profiles import Profile, door_shape, profiles_of

__all__ = ["CompiledPart", "Compiler", "Graph"]

_LAYER_LIST = "Engine Layer Information"


class Graph(Protocol):
    """A part's graph, with its types written into it."""

    @property
    def name(self) -> str:
        """Of the part, `encoder:AERIAL_RGBI`."""
        ...

    @property
    def model(self) -> bytes:
        """Serialised ONNX."""
        ...

    @property
    def inputs(self) -> tuple[Door, ...]:
        """What it takes."""
        ...

    @property
    def outputs(self) -> tuple[Door, ...]:
        """What it gives."""
        ...


@dataclass(frozen=True)
class CompiledPart:
    """An engine.

    Attributes:
        data: the serialised engine.
        layers: of the network that it was compiled from.
        profiles: that it has, in order.
        warnings: what TensorRT warned of, each once.
        listing: layers of the engine as TensorRT lists them, with their inputs, outputs and types; empty where it
            does not.
    """

    data: bytes
    layers: int
    profiles: tuple[Profile, ...]
    warnings: tuple[str, ...] = ()
    listing: tuple[str, ...] = ()


class Compiler:
    """Compiles parts with one set of settings; what it learns of timings from one part serves the next.

    Args:
        flavour: of TensorRT; one that builds.
        workspace_bytes: scratch memory that the engine and the search for it may use.
        timing_cache: what an earlier compiler learnt; None starts anew.
        version_compatible: whether later versions and the lean runtimes are to take the engines. Each then carries a
            lean runtime with it.
        capability: kind of GPU to compile for, 89 for 8.9, where the flavour compiles for GPUs that are not there;
            None leaves it to the flavour.
        progress: told of every step.

    Raises:
        BackendError: the flavour cannot do it.
    """

    def __init__(
        self,
        flavour: Flavour,
        *,
        workspace_bytes: int,
        timing_cache: bytes | None = None,
        version_compatible: bool = False,
        capability: int | None = None,
        progress: Progress | None = None,
    ) -> None:
        if not flavour.builds:
            raise BackendError(f"{flavour} only runs engines; install the whole of TensorRT to build them")
        if version_compatible and not flavour.has("BuilderFlag.VERSION_COMPATIBLE"):
            raise BackendError(f"{flavour} makes no version-compatible engines; build with tensorrt, or without it")
        self._flavour = flavour
        self._workspace_bytes = workspace_bytes
        self._version_compatible = version_compatible
        self._capability = None if capability is None else _find_capability(flavour, capability)
        self._progress = progress
        self._messages = messages_of(flavour)
        self._timings = timing_cache or b""
        with self._messages.heard() as heard:
            builder = attempt(heard, lambda: flavour.module.Builder(self._messages.logger))
        if builder is None:
            raise BackendError(f"{flavour} does not start: {heard.words()}; `uperfuse doctor` says what it needs")
        self._builder: Builder = builder

    def compile(self, graph: Graph, *, batches: Sequence[int], dates: Sequence[int] = ()) -> CompiledPart:
        """Compile a part.

        Args:
            graph: of the part.
            batches: numbers of tiles that it is to run with, rising.
            dates: numbers of dates, rising; not looked at where the part sees no dates.

        Raises:
            BackendError: TensorRT does not take the graph, finds no way to compute it, or the engine has other doors.
            KeyboardInterrupt: somebody pressed Ctrl-C; TensorRT has stopped, and the compiler is as it was.
        """
        doors = (*graph.inputs, *graph.outputs)
        profiles = profiles_of(doors, batches=batches, dates=dates)
        if not profiles:
            raise BackendError(f"{graph.name}: no number of tiles or dates to build for; give at least one of each")
        with self._messages.heard(details=_LAYER_LIST) as heard:
            network = self._parse(graph, heard)
            config = self._configure(graph, profiles, heard)
            cache = self._attach_timings(config, heard)
            with interruptible() as interruption:
                data = self._build(network, config, heard, interruption)
            interruption.raise_again()
            if data is None:
                raise BackendError(f"{self._flavour} cannot build {graph.name}: {heard.words()}; {_remedy(heard)}")
            layers = network.num_layers
            if cache is not None:
                self._timings = bytes(cache.serialize())
        return CompiledPart(data, layers, profiles, tuple(heard.warnings), _listing(heard))

    def timing_cache(self) -> bytes:
        """What was learnt of timings so far; empty where the flavour times nothing."""
        return self._timings

    def _parse(self, graph: Graph, heard: Heard) -> INetworkDefinition:
        trt = self._flavour.module
        # TensorRT 11 knows no other networks, and ignores the flag
        network = self._builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
        network.name = graph.name
        parser = trt.OnnxParser(network, self._messages.logger)
        if not parser.parse(graph.model) or parser.num_errors:
            found = [parser.get_error(index) for index in range(parser.num_errors)]
            reasons = [" ".join(filter(None, (each.node_operator(), each.node_name(), each.desc()))) for each in found]
            said = Heard(errors=reasons or heard.errors)
            raise BackendError(
                f"{self._flavour} does not take the graph of {graph.name}: {said.words()}; export the plan "
                "again with this version of uperfuse"
            )
        for end, doors, tensors in (
            ("takes", graph.inputs, [network.get_input(index) for index in range(network.num_inputs)]),
            ("gives", graph.outputs, [network.get_output(index) for index in range(network.num_outputs)]),
        ):
            compare_network(graph.name, end, doors, tensors, flavour=self._flavour)
        return network

    def _configure(self, graph: Graph, profiles: Sequence[Profile], heard: Heard) -> IBuilderConfig:
        trt, flavour = self._flavour.module, self._flavour
        config = self._builder.create_builder_config()
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, self._workspace_bytes)
        config.clear_flag(trt.BuilderFlag.TF32)
        config.max_aux_streams = 0
        if self._version_compatible:
            config.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)
        if flavour.has("BuilderFlag.REQUIRE_USER_ALLOCATION"):
            config.set_flag(trt.BuilderFlag.REQUIRE_USER_ALLOCATION)
        if self._capability is not None:
            config.num_compute_capabilities = 1
            if not config.set_compute_capability(self._capability, 0):
                raise BackendError(f"{flavour} does not compile for this GPU: {heard.words()}; leave the choice to it")
        for profile in profiles:
            self._add_profile(config, graph, profile, heard)
        return config

    def _add_profile(self, config: IBuilderConfig, graph: Graph, profile: Profile, heard: Heard) -> None:
        shapes = self._builder.create_optimization_profile()
        for door in graph.inputs:
            shape = door_shape(door, profile)
            shapes.set_shape(door.name, shape, shape, shape)
        if config.add_optimization_profile(shapes) < 0:
            raise BackendError(f"{self._flavour} refuses {graph.name} for {profile}: {heard.words()}; report it")

    def _attach_timings(self, config: IBuilderConfig, heard: Heard) -> ITimingCache | None:
        if not self._flavour.has("IBuilderConfig.set_timing_cache"):
            return None
        cache = config.create_timing_cache(self._timings)
        if cache is None or not config.set_timing_cache(cache, False):
            heard.warnings.append("the timing cache is of another GPU or version, and was not used")
            cache = config.create_timing_cache(b"")
            config.set_timing_cache(cache, False)
        return cache

    def _build(
        self, network: INetworkDefinition, config: IBuilderConfig, heard: Heard, interruption: Interruption
    ) -> bytes | None:
        monitor = make_monitor(self._flavour, interruption=interruption, progress=self._progress)
        config.progress_monitor = monitor
        data = attempt(heard, lambda: self._builder.build_serialized_network(network, config))
        config.progress_monitor = None  # before the monitor goes
        return None if data is None else bytes(data)


def _find_capability(flavour: Flavour, capability: int) -> Enumerator:
    if not flavour.has("IBuilderConfig.set_compute_capability"):
        raise BackendError(
            f"{flavour} compiles for the GPU that it finds, got a compute capability of {capability / 10}; leave it out"
        )
    known = flavour.module.ComputeCapability
    found: Enumerator | None = getattr(known, f"SM{capability}", None)
    if found is None:
        there = sorted(int(name[2:]) for name in dir(known) if re.fullmatch(r"SM\d+", name))
        raise BackendError(
            f"{flavour} does not compile for compute capability {capability / 10}, expected one of "
            f"{', '.join(str(each / 10) for each in there)}; build with tensorrt on the board itself"
        )
    return found


def _listing(heard: Heard) -> tuple[str, ...]:
    """Layers as TensorRT lists them under a title."""
    lines = (line for text in heard.details for line in text.splitlines()[1:])
    return tuple(line for line in lines if line.startswith("Layer"))


def _remedy(heard: Heard) -> str:
    words = " ".join(heard.errors).lower()
    if "memory" in words or "workspace" in words:
        return "close other programs, or build for fewer tiles and dates"
    return "build in another precision, or report these words"
