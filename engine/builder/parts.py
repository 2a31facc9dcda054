"""The parts of a plan that TensorRT runs, in float32, with the doors they will have."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
from onnx import helper, numpy_helper

from ..backends.doors import check_doors
from ..errors import PlanError
from ..plan.network import Modality
from ..plan.plan import Plan
from .channels import cancelled, first, give_last, take_last
from .cut import Cut, check_cut, cut_encoder
from .find_attention import find_attention
from .islands import logits_nodes, stem_nodes
from .onnx_graph import Graph, assemble, read_segment, renamed
from .part_graph import AttentionArrays, FloatPart
from .transposed import as_convolutions

__all__ = ["FloatParts", "decoder_part", "encoder_part", "float_parts", "half_parts"]

_SHARE = "share@mean"  # of one series in the mean of all


class FloatParts:
    """The parts of a plan in float32; each is made when it is asked for, so that one at a time need be held.

    Attributes:
        names: of the parts, in the order of the manifest's modalities and tasks.
        attention: series -> parameters of its temporal attention; none where encoders are not cut.
    """

    def __init__(self, plan: Plan, *, cut: bool) -> None:
        """Use `float_parts`."""
        self._plan = plan
        self.names = plan.manifest.parts_of(cut=cut)
        cuts = dict(_cuts(plan)) if cut else {}
        self.attention: Mapping[str, AttentionArrays] = {name: each.attention for name, each in cuts.items()}
        self._halves = {half.name: half for name, each in cuts.items() for half in half_parts(each, series=name)}

    def part(self, name: str) -> FloatPart:
        """Make one part.

        Args:
            name: one of `names`; KeyError where it is none.

        Raises:
            PlanError: its segment is no valid graph.
        """
        if name not in self.names:
            raise KeyError(name)
        if name in self._halves:
            return self._halves[name]
        graph, manifest = read_segment(self._plan, name), self._plan.manifest
        role, subject = name.split(":", 1)
        if role == "encoder":
            return encoder_part(graph, modality=manifest.modality(subject))
        averaged = len(manifest.modalities) if manifest.fusion == "mean" else 1
        return decoder_part(graph, task=subject, averaged=averaged)

    def __iter__(self) -> Iterator[FloatPart]:
        return map(self.part, self.names)

    def __len__(self) -> int:
        return len(self.names)


def float_parts(plan: Plan, *, cut: bool) -> FloatParts:
    """The parts of a plan in float32.

    Args:
        plan: an open plan; it stays open as long as parts are asked for.
        cut: whether series' encoders are cut where our kernels stand; each cut is checked against the whole.

    Raises:
        PlanError: a segment is no valid graph, its doors are not those of the plan, or a series' encoder cannot be
            cut.
    """
    check_doors(plan.manifest)
    return FloatParts(plan, cut=cut)


def _cuts(plan: Plan) -> Iterator[tuple[str, Cut]]:
    for modality in plan.manifest.modalities:
        if modality.kind == "series":
            graph = read_segment(plan, f"encoder:{modality.name}")
            cut = cut_encoder(graph, series=modality.name)
            check_cut(graph, cut, series=modality.name)
            yield modality.name, cut


def half_parts(cut: Cut, *, series: str) -> tuple[FloatPart, FloatPart]:
    """The parts in front of a series' attention and behind it."""
    segment, raw = f"encoder:{series}", frozenset({"pixels", "mask"})
    stem = stem_nodes(Graph(cut.spatial))
    return (
        FloatPart(f"spatial:{series}", cut.spatial, segment, raw, stem),
        FloatPart(f"temporal:{series}", cut.temporal, segment),
    )


def encoder_part(graph: Graph, *, modality: Modality) -> FloatPart:
    """An image's encoder, or a series' as a whole.

    Args:
        graph: the segment, constants evaluated.
        modality: what it encodes. A series and an image in float32 arrive in float32, and stay so up to their first
            normalisation: float16 ends at 65504, which a sum of products of raw numbers passes, and neither short
            type holds an altitude of 1500 m to less than half a metre.
    """
    segment = f"encoder:{modality.name}"
    nodes, outputs = give_last(graph.nodes, names=graph.outputs, types=graph.types())
    stored = graph.constants.values()
    model = assemble(graph.model, nodes, inputs=graph.model.graph.input, outputs=outputs, stored=stored)
    made = Graph(as_convolutions(cancelled(model).model))
    if modality.kind == "image" and modality.dtype != "float32":
        return FloatPart(segment, made.model, segment)
    inside = _attention_nodes(graph, series=modality.name) if modality.kind == "series" else frozenset()
    return FloatPart(segment, made.model, segment, frozenset(made.inputs), stem_nodes(made) | inside)


def _attention_nodes(graph: Graph, *, series: str) -> frozenset[str]:
    """Nodes of a series' attention: sines of days lose the date in short types. All nodes where it is not found."""
    try:
        return find_attention(graph, series=series).nodes
    except PlanError:
        return frozenset(node.name for node in graph.nodes)


def decoder_part(graph: Graph, *, task: str, averaged: int) -> FloatPart:
    """A decoder, which takes the sum of all modalities; what makes logits is float32.

    Args:
        graph: the segment, constants evaluated.
        task: whose decoder it is.
        averaged: number of series by which the sum is divided; 1 where it is taken as it is.
    """
    segment = f"decode:{task}"
    types = graph.types()
    sums = {name: f"{name}@sum" if averaged > 1 else first(name) for name in graph.inputs}
    nodes, inputs = take_last({sums[name]: name for name in sums}, types={sums[name]: types[name] for name in sums})
    stored = [*graph.constants.values(), numpy_helper.from_array(np.float32(1 / averaged), _SHARE)]
    means = [
        helper.make_node("Mul", [total, _SHARE], [first(name)], name=f"mean:{name}")
        for name, total in sums.items()
        if averaged > 1
    ]
    nodes += [*means, *(renamed(node, {name: first(name) for name in sums}) for node in graph.nodes)]
    outputs = graph.model.graph.output
    made = cancelled(assemble(graph.model, nodes, inputs=inputs, outputs=outputs, stored=stored))
    forced = logits_nodes(made, outputs=made.outputs) | {node.name for node in means}
    return FloatPart(segment, made.model, segment, frozenset(made.outputs), forced)
