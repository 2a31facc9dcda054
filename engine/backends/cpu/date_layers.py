"""The layers of a series' encoder that see every date by itself, taken out of its graph.

They are nine tenths of its work: 3 x 3 convolutions with reflected borders, each normalised over groups of channels and
rectified. `_native.DateLayers` computes them by Winograd's F(2 x 2, 3 x 3) with 16 multiplications where a convolution
as written has 36, and takes a date through all layers while it is in the caches. OpenVINO keeps the rest of the graph:
attention over dates and the decoder.

A graph that is built otherwise is not cut, and OpenVINO runs it whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import openvino as ov
from numpy.typing import NDArray
from openvino import opset14 as ops

from ... import _native
from .nodes import fold_constants, only_reader

__all__ = ["DateEncoder", "DateLayer", "Level", "SplitSeries", "split_dates"]

_BORDER = [0, 0, 1, 1]
_BY_PIXEL = [0, 3, 4, 1, 2]


@dataclass(frozen=True, eq=False)
class DateLayer:
    """One convolution with what follows it.

    Attributes:
        weight: float32 [out, in, 3, 3].
        bias: float32 [out].
        groups: of the normalisation.
        epsilon: added to the variance.
        scale: float32 [out], after the normalisation.
        shift: float32 [out].
        residual: whether the layer's input is added to what it gives.
    """

    weight: NDArray[np.float32]
    bias: NDArray[np.float32]
    groups: int
    epsilon: float
    scale: NDArray[np.float32]
    shift: NDArray[np.float32]
    residual: bool = False


@dataclass(frozen=True)
class Level:
    """What a layer gives, as the rest of the graph reads it.

    Attributes:
        layer: its number.
        channels: C.
        by_pixel: whether it lies as [1, Y, X, T, C], for attention over dates, instead of [T, C, Y, X].
    """

    layer: int
    channels: int
    by_pixel: bool


@dataclass(frozen=True, eq=False)
class SplitSeries:
    """A series' encoder in two halves.

    Attributes:
        layers: from pixels [T, C, Y, X] on.
        levels: of the layers, those that the rest reads.
        rest: takes those, then what the graph takes besides pixels.
    """

    layers: tuple[DateLayer, ...]
    levels: tuple[Level, ...]
    rest: ov.Model


class DateEncoder:
    """The layers of one series' encoder, ready to run.

    Args:
        split: an encoder that was cut.
        threads: of the processor.
    """

    def __init__(self, split: SplitSeries, *, threads: int) -> None:
        self._threads = threads
        self._levels = split.levels
        self._native = _native.DateLayers()
        for layer in split.layers:
            self._native.append(**vars(layer))

    def empty(self, pixels: NDArray[np.float32]) -> tuple[NDArray[np.float32], ...]:
        """Room for the levels of a series [T, C, Y, X], each as the rest of the graph takes it."""
        dates, _, height, width = pixels.shape
        return tuple(
            np.empty(
                (1, height, width, dates, level.channels) if level.by_pixel else (dates, level.channels, height, width),
                np.float32,
            )
            for level in self._levels
        )

    def run(
        self, pixels: NDArray[np.float32], mask: NDArray[np.float32], levels: Sequence[NDArray[np.float32]]
    ) -> None:
        """Fill the levels.

        Args:
            pixels: prepared, [T, C, Y, X].
            mask: [T]; dates where it is 0 are not looked at, and give 0.
            levels: what `empty` gave.
        """
        out = {
            level.layer: array[0].transpose(2, 3, 0, 1) if level.by_pixel else array
            for level, array in zip(self._levels, levels, strict=True)
        }
        self._native.run(pixels, mask=mask, out=out, threads=self._threads)


class _OtherwiseError(Exception):
    """A graph is built otherwise than what is looked for."""


def split_dates(encoder: ov.Model) -> SplitSeries | None:
    """Cut the encoder of a series of fixed shape behind its layers that see every date by itself.

    Args:
        encoder: takes pixels [1, T, C, Y, X], days and mask [1, T]; it is used up.

    Returns:
        Both halves; None where the graph does not begin with such layers: its constants are folded then, no more.
    """
    fold_constants(encoder)
    pixels, days, mask = encoder.get_parameters()
    layers: list[DateLayer] = []
    chains: list[list[ov.Node]] = []
    try:
        source = _dates_of(pixels, mask)
        while True:
            layer, nodes = _layer_behind(source)
            layers.append(layer)
            chains.append(nodes)
            source = nodes[-1].output(0)
    except _OtherwiseError:
        if not layers:
            return None
    inside = {node.get_friendly_name() for nodes in chains for node in nodes}
    levels: list[Level] = []
    doors: list[ov.Node] = []
    for index, nodes in enumerate(chains):
        by_pixel = _turned(nodes[-1])
        output = (by_pixel or nodes[-1]).output(0)
        readers = [port for port in output.get_target_inputs() if port.get_node().get_friendly_name() not in inside]
        if not readers:
            continue
        door = ops.parameter(list(output.get_shape()), np.float32, name=f"dates{index}")
        for reader in readers:
            reader.replace_source_output(door.output(0))
        levels.append(Level(index, len(layers[index].bias), by_pixel is not None))
        doors.append(door)
    rest = ov.Model(encoder.get_results(), [*doors, days, mask], "rest")
    return SplitSeries(tuple(layers), tuple(levels), rest)


def _dates_of(pixels: ov.Node, mask: ov.Node) -> ov.Output:
    """The dates [T, C, Y, X] of `pixels`, where those outside the mask are 0."""
    select = _reader(pixels, kind="Select")
    kept, value, other = (select.input_value(place).get_node() for place in range(3))
    _require(value == pixels and not _stored(other).any())
    _require(kept.get_type_name() == "LogicalNot")
    equal = kept.input_value(0).get_node()
    _require(equal.get_type_name() == "Equal" and not _stored(equal.input_value(1).get_node()).any())
    compared = equal.input_value(0).get_node()
    while compared.get_type_name() in ("Unsqueeze", "Reshape"):
        compared = compared.input_value(0).get_node()
    dates = _reader(select, kind="Reshape")
    _require(compared == mask and list(dates.get_output_shape(0)) == list(pixels.get_output_shape(0))[1:])
    return dates.output(0)


def _layer_behind(source: ov.Output) -> tuple[DateLayer, list[ov.Node]]:
    """The layer that reads an output, and its nodes in order."""
    padded = [port.get_node() for port in source.get_target_inputs() if port.get_node().get_type_name() == "Pad"]
    _require(len(padded) == 1 and padded[0].get_attributes()["pad_mode"] == "reflect")
    for place in (1, 2):
        _require(list(_stored(padded[0].input_value(place).get_node())) == _BORDER)

    product = _reader(padded[0], kind="Convolution")
    how = product.get_attributes()
    _require(how["strides"] == how["dilations"] == [1, 1] and how["pads_begin"] == how["pads_end"] == [0, 0])
    weight = _stored(product.input_value(1).get_node())
    channels = len(weight)
    _require(weight.shape[2:] == (3, 3))
    biased = _reader(product, kind="Add")

    grouped = _reader(biased, kind="Reshape")
    dates, groups, *_ = grouped.get_output_shape(0)
    _require(dates == source.get_shape()[0] and channels % groups == 0)
    normalised = _reader(grouped, kind="MVN")
    kept = normalised.get_attributes()
    _require(kept["normalize_variance"] and str(kept["eps_mode"]).upper().endswith("INSIDE_SQRT"))
    _require(list(_stored(normalised.input_value(1).get_node())) in ([2], [-1]))
    by_group = _reader(normalised, kind="Multiply")
    plus_group = _reader(by_group, kind="Add")
    mapped = _reader(plus_group, kind="Reshape")
    _require(mapped.get_output_shape(0) == product.get_output_shape(0))
    by_channel = _reader(mapped, kind="Multiply")
    plus_channel = _reader(by_channel, kind="Add")
    rectified = _reader(plus_channel, kind="Relu")

    group_scale, group_shift = (
        np.repeat(_stored_along(node, (groups, 1)), channels // groups) for node in (by_group, plus_group)
    )
    scale, shift, bias = (_stored_along(node, (channels, 1, 1)) for node in (by_channel, plus_channel, biased))
    nodes = [padded[0], product, biased, grouped, normalised, by_group, plus_group, mapped]
    nodes += [by_channel, plus_channel, rectified]
    total = _residual_of(rectified, source)
    layer = DateLayer(
        weight,
        bias,
        groups,
        float(kept["eps"]),
        scale=group_scale * scale,
        shift=group_shift * scale + shift,
        residual=total is not None,
    )
    return layer, nodes if total is None else [*nodes, total]


def _residual_of(rectified: ov.Node, source: ov.Output) -> ov.Node | None:
    """The sum of what a layer gives and what it reads, if that is what becomes of it."""
    total = only_reader(rectified, kind="Add")
    if total is None or source.get_node() not in (total.input_value(place).get_node() for place in (0, 1)):
        return None
    return total


def _turned(node: ov.Node) -> ov.Node | None:
    """The transposition of [T, C, Y, X] to [1, Y, X, T, C] through which alone a map is read, if it is."""
    try:
        series = _reader(node, kind="Reshape")
        turned = _reader(series, kind="Transpose")
        _require(list(series.get_output_shape(0)) == [1, *node.get_output_shape(0)])
        _require(list(_stored(turned.input_value(1).get_node())) == _BY_PIXEL)
    except _OtherwiseError:
        return None
    return turned


def _require(holds: bool) -> None:
    if not holds:
        raise _OtherwiseError


def _reader(node: ov.Node, *, kind: str) -> ov.Node:
    """The only node that reads what another gives."""
    reader = only_reader(node, kind=kind)
    if reader is None:
        raise _OtherwiseError
    return reader


def _stored(node: ov.Node) -> NDArray[np.float32]:
    """What a constant holds."""
    _require(node.get_type_name() == "Constant")
    return np.array(node.data)


def _stored_along(node: ov.Node, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """The second operand of a node, one value for each place of the only axis of `shape` that is longer than 1."""
    stored = _stored(node.input_value(1).get_node())
    _require(stored.shape[-len(shape) :] == shape and stored.size == shape[0])
    return stored.reshape(-1)
