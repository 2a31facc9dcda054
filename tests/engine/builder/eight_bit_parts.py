"""Parts with products in 8 bits in the hands of the real builder."""

from __future__ import annotations

from uperfuse.engine.builder import FloatPart, write_types
from uperfuse.engine.builder.eight_bits import Kind, Range
from uperfuse.engine.builder.layers import quantisable
from uperfuse.engine.builder.quantised import Quantisation, quantise_part

from .real_builder import EngineLayer, build

TYPES = {"int8": "int8", "fp8": "float8"}
SCALES_IN_FLOAT32 = {
    " (foreignNode) Converting conv activation scales to fp32.",
    " (foreignNode) Converting conv weight scales to fp32.",
}
"""What the builder says of float16 scales of convolutions, which it keeps in float32."""


def quantised(part: FloatPart, *, kind: Kind) -> tuple[FloatPart, tuple[str, ...]]:
    """A part with all products in 8 bits that may be, and their names."""
    layers = quantisable(part.model.graph, float_stem=False, gives_logits=part.name.startswith("decode:"))
    names = tuple(
        each.name for each in layers if each.name not in part.float_nodes and (kind == "int8" or each.kind != "Conv")
    )
    ranges = {part.segment: {name: Range(-6.0, 6.0) for name in names}}
    return quantise_part(part, Quantisation(kind, ranges, {part.segment: names}, (), 0.0, ())), names


def check_eight_bits(part: FloatPart, *, kind: Kind = "int8") -> int:
    """Build a part with its products in 8 bits, and see that the engine multiplies them so; how many there are."""
    made, names = quantised(part, kind=kind)
    if not names:
        return 0
    graph = write_types(made, precision="fp16")
    built = build(graph)
    assert set(built.warnings) <= SCALES_IN_FLOAT32
    for door, promised in zip(built.doors, (*graph.inputs, *graph.outputs), strict=True):
        assert door[:2] == (promised.name, promised.dtype)
    counts = {kind_: sum(layer.kind == kind_ for layer in built.parsed) for kind_ in ("QUANTIZE", "DEQUANTIZE")}
    assert counts["DEQUANTIZE"] == counts["QUANTIZE"] + len(names)
    assert len(names) / 4 < counts["QUANTIZE"] <= len(names)
    kinds = {node.name: node.op_type for node in made.model.graph.node}
    found = {name: _multiplying(name, built.engine, TYPES[kind]) for name in names}
    assert [name for name, layer in found.items() if layer is None] == []
    for name, layer in found.items():
        if kind == "int8":  # of whole numbers, sums that are scaled later: float16 might not hold them
            assert set(layer.writes) <= {"float32", "int8"}, (kinds[name], layer)
    return len(names)


def _multiplying(name: str, engine: tuple[EngineLayer, ...], dtype: str) -> EngineLayer | None:
    """The layer of an engine that multiplies a node's inputs in 8 bits."""
    return next(
        (
            layer
            for layer in engine
            if name in layer.nodes and dtype in layer.reads and any(kind == dtype for kind, _ in layer.stores)
        ),
        None,
    )
