"""The parts of a plan that TensorRT runs, in float32, with the doors they will have."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
from onnx import helper, numpy_helper

from ..backends.doors import check_doors
from ..errors import PlanError
from ..plan.plan import Plan
from .channels import cancelled, first, give_last, take_last
from .cut import Cut, check_cut, cut_encoder
from .find_attention import find_attention
from .islands import logits_nodes, stem_nodes
from .onnx_graph import Graph, assemble, read_segment, renamed
from .part_graph import AttentionArrays, FloatPart
from .transposed import as_convolutions

__all__ = ["FloatParts", "float_parts"]

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
        self._cuts = dict(_cuts(plan)) if cut else {}
        self.attention: Mapping[str, AttentionArrays] = {name: each.attention for name, each in self._cuts.items()}

    def part(self, name: str) -> FloatPart:
        """Make one part.

        Args:
            name: one of `names`.

        Raises:
            PlanError: its segment is no valid graph.
        """
        role, subject = name.split(":", 1)
        if role == "decode":
            return _decoder(self._plan, subject)
        if role == "encoder":
            return _encoder(self._plan, subject)
        cut = self._cuts[subject]
        if role == "temporal":
            return FloatPart(name, cut.temporal, f"encoder:{subject}")
        raw = frozenset({"pixels", "mask"})
        return FloatPart(name, cut.spatial, f"encoder:{subject}", raw, stem_nodes(Graph(cut.spatial)))

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


def _encoder(plan: Plan, name: str) -> FloatPart:
    """An image's encoder, or a series' as a whole."""
    segment = f"encoder:{name}"
    graph = read_segment(plan, segment)
    modality = plan.manifest.modality(name)
    forced: frozenset[str] = frozenset()
    if modality.kind == "series":
        forced = _attention_nodes(graph, series=name)
    nodes, outputs = give_last(graph.nodes, names=graph.outputs, types=graph.types())
    stored = graph.constants.values()
    model = assemble(graph.model, nodes, inputs=graph.model.graph.input, outputs=outputs, stored=stored)
    made = Graph(as_convolutions(cancelled(model).model))
    if modality.kind == "image" and modality.dtype != "float32":
        return FloatPart(segment, made.model, segment)
    return FloatPart(segment, made.model, segment, frozenset(made.inputs), stem_nodes(made) | forced)


def _attention_nodes(graph: Graph, *, series: str) -> frozenset[str]:
    """Nodes of a series' attention: days are lost in short types. All nodes where it is not found."""
    try:
        return find_attention(graph, series=series).nodes
    except PlanError:
        return frozenset(node.name for node in graph.nodes)


def _decoder(plan: Plan, task: str) -> FloatPart:
    """A decoder, which takes the sum of all modalities; where series alone are averaged, it divides by their number."""
    segment = f"decode:{task}"
    graph = read_segment(plan, segment)
    types = graph.types()
    inner = {name: first(name) for name in graph.inputs}
    count = len(plan.manifest.modalities) if plan.manifest.fusion == "mean" else 1
    sums = {name: f"{name}@sum" if count > 1 else first(name) for name in graph.inputs}
    nodes, inputs = take_last({sums[name]: name for name in sums}, types={sums[name]: types[name] for name in sums})
    stored = list(graph.constants.values())
    means = []
    if count > 1:
        stored.append(numpy_helper.from_array(np.float32(1 / count), _SHARE))
        means = [
            helper.make_node("Mul", [sums[name], _SHARE], [first(name)], name=f"mean:{name}") for name in graph.inputs
        ]
    nodes += [*means, *(renamed(node, inner) for node in graph.nodes)]
    outputs = graph.model.graph.output
    made = cancelled(assemble(graph.model, nodes, inputs=inputs, outputs=outputs, stored=stored))
    forced = logits_nodes(made, outputs=made.outputs) | {node.name for node in means}
    return FloatPart(segment, made.model, segment, frozenset(made.outputs), forced)
