"""The temporal attention inside of a series' exported encoder: where it begins and ends, and its parameters.

The exporter absorbs the learned queries into the projections (`uperfuse.kernels.temporal_attention`), so that the graph
holds what the kernel takes, under names that mean nothing. It is found by its structure: the one softmax, over dates,
of normalised features times one matrix plus positions times another.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray

from ..errors import PlanError
from .attention import EPSILON
from .onnx_graph import Graph, attribute
from .part_graph import AttentionArrays

__all__ = ["FoundAttention", "find_attention"]

_LAYOUT = ("Reshape", "Transpose", "Unsqueeze", "Squeeze", "Flatten", "Identity")
_Array = NDArray[np.float32]


@dataclass(frozen=True)
class FoundAttention:
    """A temporal attention and the sums that it weighs.

    Attributes:
        arrays: its parameters.
        features: tensor that goes in, [B, T, C, Y, X].
        context: tensor that comes out, [B, D, Y, X].
        maps: tensors that are summed over dates, [B, T, C_i, Y, X], in the order in which they are made.
        sums: their sums, [B, C_i, Y, X], in the same order.
        nodes: names of the nodes of the attention and of the sums.
    """

    arrays: AttentionArrays
    features: str
    context: str
    maps: tuple[str, ...]
    sums: tuple[str, ...]
    nodes: frozenset[str]


class _NoMatch(Exception):  # noqa: N818 -- it is turned into a PlanError before anybody sees it
    """What was expected at some place and is not there."""


def find_attention(graph: Graph, *, series: str) -> FoundAttention:
    """Find the temporal attention of a series' encoder.

    Args:
        graph: the segment, constants evaluated.
        series: its name, for the message.

    Raises:
        PlanError: the graph holds no temporal attention as this release exports it.
    """
    try:
        return _Search(graph).found()
    except (_NoMatch, KeyError, IndexError) as error:  # a tensor without a shape, a node without what it works on
        what = str(error) if isinstance(error, _NoMatch) else f"no shape or operand at {error}"
        raise PlanError(
            f"the encoder of {series} holds {what}, expected the temporal attention that this release exports; "
            "build with --no-kernels, or export the plan again"
        ) from None


class _Search:
    """The walk through one graph."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._types = graph.types()
        softmaxes = [node for node in graph.nodes if node.op_type == "Softmax"]
        if len(softmaxes) != 1:
            raise _NoMatch(f"{len(softmaxes)} softmaxes")
        self._softmax = softmaxes[0]
        self._weighed = graph.behind(self._softmax.output)

    def found(self) -> FoundAttention:
        product, by_date = self._scores()
        norm_scale, norm_shift, features = self._normalisation(product.input[0])
        score = self._matrix(product.input[1]).T
        score_position, score_bias, period = self._positions(by_date)
        embed, context = self._embedding()
        H, P = score_position.shape
        arrays = AttentionArrays(
            norm_scale=norm_scale,
            norm_shift=norm_shift,
            score=np.ascontiguousarray(score),
            score_position=score_position,
            score_bias=score_bias,
            embed=embed,
            embed_bias=self._embed_bias((H, 1, P)),
            period=period,
        )
        _agree(arrays, channels=self._types[features].shape[2])
        maps, sums = self._sums()
        inside = self._graph.before([context, *sums], stop=[features, *maps])
        return FoundAttention(arrays, features, context, maps, sums, frozenset(node.name for node in inside))

    def _scores(self) -> tuple[onnx.NodeProto, str]:
        """The product of normalised features, and the tensor of what dates add to it."""
        masked = self._made(self._softmax.input[0], "Where")
        total = next((name for name in masked.input[1:] if name not in self._graph.constants), "")
        by_pixel = self._graph.behind(["pixels"])
        terms = self._made(total, "Add").input
        of_pixels = [name for name in terms if name in by_pixel]
        of_dates = [name for name in terms if name not in by_pixel]
        if len(of_pixels) != 1 or len(of_dates) != 1:
            raise _NoMatch("scores that are not a product plus a term of dates")
        return self._made(of_pixels[0], "MatMul"), of_dates[0]

    def _normalisation(self, normal: str) -> tuple[_Array, _Array, str]:
        """Its scale, its shift, and the features that go in."""
        scaled, shift = self._with_constant(normal, "Add")
        divided, scale = self._with_constant(scaled, "Mul")
        factors = self._made(self._through(divided), "Mul").input
        (centred,), (root,) = (
            [name for name in factors if self._kind(name) == kind] or [""] for kind in ("Sub", "Reciprocal")
        )
        variance = self._made(self._made(root, "Reciprocal").input[0], "Sqrt").input[0]
        _, epsilon = self._with_constant(variance, "Add")
        if epsilon.size != 1 or not np.isclose(epsilon.item(), EPSILON, rtol=1e-5):
            raise _NoMatch(f"a normalisation with epsilon {epsilon.tolist()}")
        name = self._made(centred, "Sub").input[0]
        while self._kind(name) == "Reshape":
            name = self._graph.makers[name].input[0]
        turned = self._made(name, "Transpose")
        if attribute(turned, "perm") != [0, 3, 4, 1, 2]:
            raise _NoMatch("features that do not lie [B, T, C, Y, X]")
        return scale, shift, turned.input[0]

    def _positions(self, by_date: str) -> tuple[_Array, _Array, float]:
        """What a score takes from positions [H, P], what from neither [H], and the period of the positions."""
        product, bias = self._with_constant(self._through(by_date), "Add")
        factors = self._made(product, "MatMul").input
        weights = self._matrix(factors[1]).T
        chosen = self._made(self._through(factors[0]), "Where").input
        even = self._graph.array(chosen[0])
        angles = [self._made(chosen[1], "Sin").input[0], self._made(chosen[2], "Cos").input[0]]
        days, table = self._with_constant(angles[0], "Div")
        if angles[0] != angles[1] or self._through(days) != "days" or even is None:
            raise _NoMatch("positions that are no sines and cosines of the days")
        if even.reshape(-1).tolist() != [place % 2 == 0 for place in range(table.size)]:
            raise _NoMatch("positions whose sines are not on even entries")
        return np.ascontiguousarray(weights), bias.reshape(-1), _period(table.reshape(-1))

    def _embedding(self) -> tuple[_Array, str]:
        """Weights from features to embedding [D, C], and the context that it ends in."""
        products = [
            node
            for node in self._graph.nodes
            if node.op_type == "MatMul" and node.output[0] in self._weighed and self._rank(node.input[1]) == 3
        ]
        found = [(node, self._graph.array(node.input[1])) for node in products]
        stored = [(node, array) for node, array in found if array is not None]
        if len(stored) != 1:
            raise _NoMatch(f"{len(stored)} embeddings")
        node, array = stored[0]
        H, C, P = array.shape
        embed = array.transpose(0, 2, 1).reshape(H * P, C).astype(np.float32)
        return embed, self._ahead(node.output[0], ("Add", "Transpose", "Reshape"), channels=H * P)

    def _embed_bias(self, shape: tuple[int, ...]) -> _Array:
        """[D]; it is weighed by the sum of the attention, 0 where there is no date."""
        for node in self._graph.nodes:
            if node.op_type == "Mul" and node.output[0] in self._weighed:
                for name in node.input:
                    array = self._graph.array(name)
                    if array is not None and array.shape == shape:
                        return array.astype(np.float32).reshape(-1)
        raise _NoMatch(f"no bias of its embedding of shape {list(shape)}")

    def _sums(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Maps that the attention sums over dates, as they are made, and their sums."""
        found: dict[str, str] = {}
        for node in self._graph.nodes:
            if node.op_type != "ReduceSum" or self._kind(node.input[0]) != "Mul":
                continue
            factors = self._graph.makers[node.input[0]].input
            maps = [name for name in factors if name not in self._weighed]
            if len(maps) != 1 or self._rank(maps[0]) != 6:
                continue
            source = self._made(maps[0], "Reshape").input[0]
            if self._rank(source) != 5 or source in found:
                raise _NoMatch("a sum over dates of a map that does not lie [B, T, C, Y, X]")
            found[source] = self._ahead(node.output[0], ("Reshape",), channels=self._types[source].shape[2])
        order = [name for node in self._graph.nodes for name in node.output if name in found]
        return tuple(order), tuple(found[name] for name in order)

    def _ahead(self, name: str, kinds: Iterable[str], *, channels: int | str) -> str:
        """The tensor [B, channels, Y, X] that `name` becomes through nodes of `kinds`, each its only reader."""
        while self._kind(name) != "Reshape" or self._rank(name) != 4 or self._types[name].shape[1] != channels:
            readers = self._graph.readers.get(name, ())
            if len(readers) != 1 or readers[0].op_type not in kinds:
                raise _NoMatch("an attention whose result does not lie [B, C, Y, X]")
            name = readers[0].output[0]
        return name

    def _kind(self, name: str) -> str:
        node = self._graph.makers.get(name)
        return node.op_type if node is not None else ""

    def _rank(self, name: str) -> int:
        return len(self._types[name].shape) if name in self._types else -1

    def _made(self, name: str, kind: str) -> onnx.NodeProto:
        if self._kind(name) != kind:
            raise _NoMatch(f"{self._kind(name) or 'nothing'} in the place of {kind}")
        return self._graph.makers[name]

    def _through(self, name: str) -> str:
        """What a tensor was before it was laid out otherwise."""
        while self._kind(name) in _LAYOUT:
            name = self._graph.makers[name].input[0]
        return name

    def _with_constant(self, name: str, kind: str) -> tuple[str, _Array]:
        """The computed and the stored operand of the node that makes `name`."""
        operands = self._made(name, kind).input
        for place in (0, 1):
            array = self._graph.array(operands[1 - place])
            if array is not None:
                return operands[place], array.astype(np.float32)
        raise _NoMatch(f"{kind} of two computed tensors in the place of one and a constant")

    def _matrix(self, name: str) -> _Array:
        array = self._graph.array(name)
        if array is None or array.ndim != 2:
            raise _NoMatch("a product with something else than a stored matrix")
        return array.astype(np.float32)


def _period(table: _Array) -> float:
    """Period whose powers are the days by which sinusoids are divided."""
    entries = table.size
    if entries < 3:
        raise _NoMatch(f"positions of {entries} entries")
    exponents = 2 * (np.arange(entries) // 2) / entries
    exact = float(table[-1].astype(np.float64) ** (1 / exponents[-1]))
    for period in (float(f"{exact:.6g}"), exact):  # what was typed, before what float32 made of it
        if period > 0 and np.allclose(period**exponents, table, rtol=3e-7, atol=0):
            return period
    raise _NoMatch("positions that are no powers of one period")


def _agree(arrays: AttentionArrays, *, channels: int | str) -> None:
    H, P = arrays.score_position.shape
    D, C = arrays.embed.shape
    shapes = {
        "norm_scale": (C,),
        "norm_shift": (C,),
        "score": (H, C),
        "score_bias": (H,),
        "embed_bias": (D,),
    }
    wrong = [name for name, shape in shapes.items() if getattr(arrays, name).shape != shape]
    if wrong or H * P != D or channels != C or C % H:
        raise _NoMatch(
            f"{H} heads, {C} channels and an embedding of {D} that do not belong together {wrong or ''}".strip()
        )
