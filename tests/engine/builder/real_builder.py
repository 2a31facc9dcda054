"""TensorRT-RTX's builder, which needs no GPU: what it parses of a typed graph, and what it makes of it.

An engine cannot be loaded without a driver. But its builder lists the layers of what it has built, with the types of
what they read, store and write, and with the ONNX nodes that went into each.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from uperfuse.engine.builder import PartGraph
from uperfuse.engine.tensorrt import find_flavour
from uperfuse.engine.tensorrt.messages import messages_of

_LISTING = "Layers:\n"
"""How the builder's list of what it has built begins, among all that it says."""

SIZES = {"B": 2, "T": 7}
NAMES = {"FLOAT": "float32", "HALF": "float16", "BF16": "bfloat16"}
LISTED = {"Float": "float32", "Half": "float16", "BFloat16": "bfloat16", "Int8": "int8", "FP8": "float8"}


@dataclass(frozen=True)
class ParsedLayer:
    """A layer of the network: where it comes from, and the types of what it takes and gives."""

    name: str
    kind: str
    node: str
    takes: tuple[str, ...]
    gives: tuple[str, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


@dataclass(frozen=True)
class EngineLayer:
    """A layer of the engine: types of what it reads and writes, type and size of what it stores, nodes in it."""

    name: str
    kind: str
    reads: tuple[str, ...]
    stores: tuple[tuple[str, int], ...]
    writes: tuple[str, ...]
    nodes: tuple[str, ...]


@dataclass(frozen=True)
class Built:
    """A part in TensorRT's hands.

    Attributes:
        doors: name, type and shape of what the network takes and gives; -1 where an axis varies.
        parsed: layers of the network.
        engine: layers of the engine.
        warnings: what the parser and the builder warned of.
    """

    doors: tuple[tuple[str, str, tuple[int, ...]], ...]
    parsed: tuple[ParsedLayer, ...]
    engine: tuple[EngineLayer, ...]
    warnings: tuple[str, ...]


def build(graph: PartGraph) -> Built:
    """Parse and build a part, strongly typed, for the default targets and one shape."""
    flavour = find_flavour("rtx", need="build")
    trt, messages = flavour.module, messages_of(flavour)
    with messages.heard(details=_LISTING) as heard:
        builder = trt.Builder(messages.logger)
        network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
        parser = trt.OnnxParser(network, messages.logger)
        taken = parser.parse(graph.model)
        assert taken, [parser.get_error(place).desc() for place in range(parser.num_errors)]
        assert parser.num_errors == 0
        config = builder.create_builder_config()
        config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
        config.clear_flag(trt.BuilderFlag.TF32)
        profile = builder.create_optimization_profile()
        for door in graph.inputs:
            shape = [SIZES.get(axis, axis) for axis in door.shape]
            profile.set_shape(door.name, shape, shape, shape)
        assert config.add_optimization_profile(profile) == 0
        ends = [network.get_input(place) for place in range(network.num_inputs)]
        ends += [network.get_output(place) for place in range(network.num_outputs)]
        doors = tuple((end.name, NAMES[end.dtype.name], tuple(end.shape)) for end in ends)
        parsed = tuple(_parsed(network))
        data = builder.build_serialized_network(network, config)
    assert data is not None, heard.errors
    assert not heard.errors
    engine = tuple(_engine(heard.details))
    return Built(doors, parsed, engine, tuple(heard.warnings))


def _parsed(network) -> Iterator[ParsedLayer]:
    for place in range(network.num_layers):
        layer = network.get_layer(place)
        inputs = [layer.get_input(index) for index in range(layer.num_inputs)]
        inputs = [each for each in inputs if each is not None]
        outputs = [layer.get_output(index) for index in range(layer.num_outputs)]
        node = re.fullmatch(r"\[ONNX Layer: (.*)\]", layer.metadata)
        yield ParsedLayer(
            layer.name,
            layer.type.name,
            node.group(1) if node else "",
            tuple(NAMES.get(each.dtype.name, each.dtype.name) for each in inputs),
            tuple(NAMES.get(each.dtype.name, each.dtype.name) for each in outputs),
            tuple(each.name for each in inputs),
            tuple(each.name for each in outputs),
        )


def _engine(details: list[str]) -> Iterator[EngineLayer]:
    (text,) = (each for each in details if "\nName: " in each and "LayerType: " in each)
    for line in text.splitlines():
        if not line.startswith("Name: "):
            continue
        name, kind, rest = re.match(r"Name: (.*?), LayerType: (\w+), (.*)", line).groups()
        parts = dict(re.findall(r"(Inputs|Constants|Outputs): \[(.*?)\](?=, (?:Constants|Outputs|TacticName):)", rest))
        sizes = re.findall(r"Dimensions: \[([\d,]*)\].*?Datatype: (\w+)", parts.get("Constants", ""))
        yield EngineLayer(
            name,
            kind,
            _types(parts.get("Inputs", "")),
            tuple((LISTED.get(kind, kind), _count(axes)) for axes, kind in sizes),
            _types(parts.get("Outputs", "")),
            tuple(re.findall(r"\[ONNX Layer: (.*?)\]", rest)),
        )


def _types(text: str) -> tuple[str, ...]:
    return tuple(LISTED.get(kind, kind) for kind in re.findall(r"Datatype: (\w+)", text))


def _count(axes: str) -> int:
    count = 1
    for axis in filter(None, axes.split(",")):
        count *= int(axis)
    return count
