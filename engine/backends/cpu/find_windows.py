"""Where an operation of our own takes the place of OpenVINO's layers for the attention in Swin's windows.

OpenVINO fuses an attention into one layer, which takes three times as long as its products; around it tokens are
padded, gathered into windows and brought in order of heads, and all back. `WindowAttention` reads queries, keys and
values where their products wrote them, and writes what each of the image's own tokens gets.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import openvino as ov
from numpy.typing import NDArray
from openvino import opset14 as ops

from ... import _native
from .nodes import kind_of, known, made_by, only_reader, read_instead
from .window_attention import HEAD_CHANNELS, WindowAttention, Windows

__all__ = ["attend_in_windows", "tokens_apart"]

_MAX_WINDOW_TOKENS, _VECTOR = 256, 16
_MASKED, _NEVER = -100.0, -1e30
_AXES = 7
_BETWEEN = ("Add", "MatMul", "Multiply", "Subtract", "Convert", "FakeQuantize")
"""Nodes between tokens that are padded and the queries, keys or values made of them, in 8 bits or not."""


def attend_in_windows(model: ov.Model, *, threads: int) -> None:
    """Let `WindowAttention` do what a Swin block as we export it does between its products.

    Graphs stay as they are where the processor has no bf16 in AVX-512, or has AMX, with which OpenVINO multiplies.

    Args:
        model: what is changed; of one tile, and to be computed in bf16.
        threads: of the processor.
    """
    if not _native.attends_in_windows():
        return
    masks = _Masks(model)
    found = [_around(node, masks, model) for node in model.get_ordered_ops() if kind_of(node) == "Softmax"]
    for attention in found:
        if attention is not None:
            _replace(attention, threads=threads)
    model.validate_nodes_and_infer_types()


def tokens_apart(output: ov.Output, model: ov.Model) -> NDArray[np.bool_] | None:
    """Which pairs of tokens [windows, 1, N, N] must not meet, if an output is the mask of that; else None."""
    shape = output.get_partial_shape()
    if not shape.is_static or len(shape) != 4 or shape[1] != 1 or shape[2] != shape[3]:
        return None
    mask = known(output, model)
    if mask is None:
        return None
    apart: NDArray[np.bool_] = mask <= _MASKED
    return apart if apart.any() and np.all(apart | (mask == 0)) else None


@dataclass(frozen=True)
class _Part:
    """Queries, keys or values on their way into windows.

    Attributes:
        source: gives them [1, T, C], or with a row more of what pads windows.
        places: [windows, N]: rows of `source`.
        heads: of the attention.
    """

    source: ov.Node
    places: NDArray[np.int32]
    heads: int

    @property
    def path(self) -> Iterator[ov.Node]:
        """From `source` back to what no longer lies `_BETWEEN`, which comes last."""
        node = self.source
        while kind_of(node) in _BETWEEN:
            yield node
            node = node.input_value(0).get_node()
        yield node


@dataclass(frozen=True)
class _Attention:
    """An attention in windows.

    Attributes:
        parts: queries, keys and values.
        bias: [heads, N, N].
        regions: [windows, N].
        pad: gives the tokens of which `parts` are made a row of zeros more; None where windows need no padding.
        padding: [2, C], key and value of that row.
        last: gives the result [1, T, C].
    """

    parts: tuple[_Part, _Part, _Part]
    bias: NDArray[np.float32]
    regions: NDArray[np.int32]
    pad: ov.Node | None
    padding: NDArray[np.float32]
    last: ov.Node


class _Masks:
    """The masks of a graph, of which many attentions have one in common."""

    def __init__(self, model: ov.Model) -> None:
        self._model = model
        self._seen: dict[str, NDArray[np.int32] | None] = {}

    def regions(self, output: ov.Output) -> NDArray[np.int32] | None:
        """The region [windows, N] of every token, where an output keeps those of different ones apart; else None."""
        name = output.get_node().get_name()
        if name not in self._seen:
            self._seen[name] = self._found(output)
        return self._seen[name]

    def _found(self, output: ov.Output) -> NDArray[np.int32] | None:
        apart = tokens_apart(output, self._model)
        if apart is None:
            return None
        regions = apart[:, 0].argmin(-1).astype(np.int32)  # the first token that each may meet
        return regions if np.array_equal(regions[:, :, None] != regions[:, None, :], apart[:, 0]) else None


def _around(softmax: ov.Node, masks: _Masks, model: ov.Model) -> _Attention | None:
    """The attention around a softmax, if it is that of a Swin block; else None."""
    scores, regions = softmax.input_value(0).get_node(), None
    if kind_of(scores) == "Add" and made_by(scores, 0) == "Add":
        regions, scores = masks.regions(scores.input_value(1)), scores.input_value(0).get_node()
        if regions is None:
            return None
    mix = only_reader(softmax, kind="MatMul")
    if mix is None or kind_of(scores) != "Add" or made_by(scores, 0) != "MatMul":
        return None
    product, bias = scores.input_value(0).get_node(), known(scores.input_value(1), model)
    query, key = _part(product, 0, [0, 2, 1, 3], model), _part(product, 1, [0, 2, 3, 1], model)
    value = _part(mix, 1, [0, 2, 1, 3], model)
    if bias is None or query is None or key is None or value is None:
        return None
    windows, N = query.places.shape
    if regions is None:
        regions = np.zeros((windows, N), np.int32)
    last = _out_of_windows(mix, query.places, model)
    fits = (
        last is not None
        and bias.shape == (query.heads, N, N)
        and N <= _MAX_WINDOW_TOKENS
        and regions.shape == (windows, N)
        and all(np.array_equal(part.places, query.places) for part in (key, value))
        and len({tuple(part.source.get_output_shape(0)) for part in (query, key, value)}) == 1
    )
    if last is None or not fits:
        return None
    parts = (query, key, value)
    if query.source.get_output_shape(0) == last.get_output_shape(0):
        return _Attention(parts, bias, regions, None, np.zeros((2, query.heads * HEAD_CHANNELS), np.float32), last)
    pad = _pad_of(parts)
    if pad is None or pad.get_input_shape(0)[1] != last.get_output_shape(0)[1]:
        return None
    rows = [_row_of_zeros(part, model) for part in (key, value)]
    padding = [row for row in rows if row is not None]
    return _Attention(parts, bias, regions, pad, np.stack(padding), last) if len(padding) == len(rows) else None


def _part(product: ov.Node, place: int, order: list[int], model: ov.Model) -> _Part | None:
    """What comes to a product as [windows, heads, N or D, D or N], by a transposition of `order`."""
    attributes = product.get_attributes()
    turned = product.input_value(place).get_node()
    if attributes["transpose_a"] or attributes["transpose_b"] or kind_of(turned) != "Transpose":
        return None
    split = turned.input_value(0).get_node()
    axes, shape = known(turned.input_value(1), model), split.get_output_partial_shape(0)
    if axes is None or list(axes) != order or kind_of(split) != "Reshape" or not shape.is_static or len(shape) != 4:
        return None
    windows, N, heads, channels = shape.to_shape()
    source = split.input_value(0).get_node()
    places: NDArray[Any] | None = np.arange(windows * N)
    if kind_of(source) == "Gather":
        places, source = _gathered(source, model), source.input_value(0).get_node()
    rows = source.get_output_partial_shape(0)
    if places is None or places.size != windows * N or channels != HEAD_CHANNELS or not rows.is_static:
        return None
    if len(rows) != 3 or rows[0] != 1 or rows[2] != heads * channels or places.max() >= rows.to_shape()[1]:
        return None
    return _Part(source, places.reshape(windows, N).astype(np.int32), heads)


def _gathered(gather: ov.Node, model: ov.Model) -> NDArray[Any] | None:
    """The rows of [1, T, C] that a gather takes; None if it does something else."""
    places, axis = (known(gather.input_value(place), model) for place in (1, 2))
    if places is None or places.ndim != 1 or min(places, default=-1) < 0 or axis is None or int(axis) != 1:
        return None
    return places


def _out_of_windows(mix: ov.Node, places: NDArray[np.int32], model: ov.Model) -> ov.Node | None:
    """What gives tokens [1, T, C] in their own order again, behind an attention's last product."""
    turned = only_reader(mix, kind="Transpose")
    order = None if turned is None else known(turned.input_value(1), model)
    rows = None if turned is None or order is None else only_reader(turned, kind="Reshape")
    if rows is None or order is None or list(order) != [0, 2, 1, 3]:
        return None
    if list(rows.get_output_shape(0))[:2] != [1, places.size]:
        return None
    if np.array_equal(places.reshape(-1), np.arange(places.size)):
        return rows
    gather = only_reader(rows, kind="Gather")
    back = None if gather is None else _gathered(gather, model)
    if back is None or not np.array_equal(places.reshape(-1)[back], np.arange(back.size)):
        return None
    return gather


def _pad_of(parts: tuple[_Part, ...]) -> ov.Node | None:
    """What pads the tokens of which all parts are made, and of which nothing else is; else None."""
    *_, pad = parts[0].path
    if kind_of(pad) != "Pad":
        return None
    ends, reached, left = {part.source.get_name() for part in parts}, set(), [pad]
    while left:
        for port in left.pop().output(0).get_target_inputs():
            reader = port.get_node()
            if kind_of(reader) not in _BETWEEN or port.get_index() != 0:
                return None
            if reader.get_name() in ends:
                reached.add(reader.get_name())
            else:
                left.append(reader)
    return pad if reached == ends else None


def _row_of_zeros(part: _Part, model: ov.Model) -> NDArray[np.float32] | None:
    """What a product and its bias make of a row of zeros; None where that is not the bias alone."""
    *steps, _ = part.path
    row = np.zeros(part.source.get_output_shape(0)[2], np.float32)
    if kind_of(steps[0]) == "Add":
        bias = known(steps.pop(0).input_value(1), model)
        if bias is None or bias.size != row.size:
            return None
        row = bias.reshape(row.shape).astype(np.float32)
    if not steps or kind_of(steps.pop(0)) != "MatMul":
        return None
    number: float | None = 0.0
    for step in reversed(steps):
        number = None if number is None else _quantised(number, step, model)
    return row if number == 0 else None


def _quantised(number: float, step: ov.Node, model: ov.Model) -> float | None:
    """What a step of a quantisation makes of a number; None where it is another step, or depends on the channel."""
    beside = [known(step.input_value(place), model) for place in range(1, step.get_input_size())]
    values = [float(each.reshape(())) for each in beside if each is not None and each.size == 1]
    if len(values) != len(beside):
        return None
    match kind_of(step), values:
        case "FakeQuantize", [low, high, to_low, to_high]:
            last = int(step.get_attributes()["levels"]) - 1
            level = round(min(max((number - low) / (high - low), 0.0), 1.0) * last)
            return to_low + level / last * (to_high - to_low)
        case "Convert", []:
            return number if step.get_output_element_type(0).is_real() else float(round(number))
        case "Subtract", [zero]:
            return number - zero
        case "Multiply", [scale]:
            return number * scale
    return None


def _replace(found: _Attention, *, threads: int) -> None:
    shape = list(found.last.get_output_shape(0))
    if found.pad is not None:
        for reader in found.pad.output(0).get_target_inputs():
            reader.replace_source_output(found.pad.input_value(0))
        for part in found.parts:
            for node in reversed([*part.path][:-1]):
                node.validate_and_infer_types()
    heads, N, _ = found.bias.shape
    bias = np.full((heads, N, -(-N // _VECTOR) * _VECTOR), _NEVER, np.float32)
    bias[..., :N] = found.bias * np.log2(np.e)
    windows = Windows(found.parts[0].places, found.regions, bias, found.padding)
    rows = [_converted(part.source.output(0), ov.Type.bf16, shape).output(0) for part in found.parts]
    attention = WindowAttention([*rows, ops.constant(windows.packed()).output(0)], threads=threads)
    attention.set_friendly_name(found.last.friendly_name)
    read_instead(found.last, _converted(attention.output(0), ov.Type.f32, shape))


def _converted(output: ov.Output, kind: ov.Type, shape: list[int]) -> ov.Node:
    """Numbers in another type, by a node that OpenVINO drops where it computes in that type anyway.

    It does so with seven axes; with fewer it makes a layer of it, which copies.
    """
    long = ops.reshape(output, np.array([1] * (_AXES - len(shape)) + shape), False)
    return ops.reshape(ops.convert(long, kind), np.array(shape), False)
