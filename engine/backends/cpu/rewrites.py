"""What is changed about a graph so that OpenVINO runs it faster; its numbers stay the same up to rounding.

Every change was measured with OpenVINO 2026.4; where it says no other, on two cores of an AMD EPYC (Zen 5) in bf16.
Changing a graph twice changes it no more than once.
"""

from __future__ import annotations

from functools import reduce

import numpy as np
import openvino as ov
from openvino import opset14 as ops

from .find_windows import attend_in_windows, tokens_apart
from .nodes import kind_of, known, made_by, only_reader, read_instead

__all__ = [
    "bound_long_products",
    "convolve_apart",
    "gather_rows",
    "keep_left_factors_short",
    "make_faster",
    "normalise_rows",
    "select_scores",
    "shorten_streams",
    "sum_dates_apart",
    "transpose_in_products",
]

_LONG = 1024
_LARGE = 64 * 64
_NEVER = np.float32(-1e9)


def make_faster(model: ov.Model, *, precision: str, threads: int) -> None:
    """Change a graph of fixed shapes in every way that helps.

    Args:
        model: what is changed.
        precision: "float32" or "bf16", in which what is not quantised is multiplied.
        threads: of the processor.
    """
    if precision == "bf16":
        attend_in_windows(model, threads=threads)
    transpose_in_products(model)
    select_scores(model)
    normalise_rows(model)
    gather_rows(model)
    convolve_apart(model)
    sum_dates_apart(model)
    if precision == "float32":
        bound_long_products(model)
    else:
        keep_left_factors_short(model)
        shorten_streams(model)


def transpose_in_products(model: ov.Model) -> None:
    """Let a product read the rows of its second factor, where another node turns them into columns first.

    A fused attention takes keys as they lie. Moving the innermost axis of Swin-B's keys, [9, 144, 16, 32], took 0.32 ms
    beforehand; bringing heads in front of tokens takes 0.07.
    """
    for node in model.get_ordered_ops():
        if kind_of(node) != "MatMul" or made_by(node, 1) != "Transpose" or node.get_attributes()["transpose_b"]:
            continue
        turned = node.input_value(1).get_node()
        order = known(turned.input_value(1), model)
        if order is None or len(order) < 3 or order[-2] != len(order) - 1:
            continue
        rows = ops.transpose(turned.input_value(0), np.array([*order[:-2], order[-1], order[-2]]))
        product = ops.matmul(node.input_value(0), rows, node.get_attributes()["transpose_a"], True)
        product.set_friendly_name(node.friendly_name)
        read_instead(node, product)


def select_scores(model: ov.Model) -> None:
    """Select scores of tokens that may meet, instead of adding a mask that is -100 where they may not.

    OpenVINO adds a mask [windows, 1, N, N] to the bias [heads, N, N] once and for all, and every attention reads that
    sum: 40 MB in the first stage of Swin-B at 512 px, where shifted windows took 5.4 ms. With a byte for every pair of
    tokens they take 4.1 ms, without a mask 3.9. What a softmax gives to tokens apart was e^-100 of its due, and is
    nothing.
    """
    for node in model.get_ordered_ops():
        if kind_of(node) != "Add" or only_reader(node, kind="Softmax") is None:
            continue
        for place in (0, 1):
            apart = tokens_apart(node.input_value(place), model)
            if apart is not None:
                scores = node.input_value(1 - place)
                read_instead(node, ops.select(ops.constant(apart), ops.constant(_NEVER.reshape(1, 1, 1, 1)), scores))
                break


def normalise_rows(model: ov.Model) -> None:
    """Normalise the last of four axes as that of rows.

    OpenVINO has a kernel for three axes; of a normalisation of four it makes four layers, and moves the map in front
    of them: for Swin-B's first, [1, 128, 128, 128], that took 2.8 ms instead of 0.3.
    """
    for node in model.get_ordered_ops():
        if kind_of(node) != "MVN" or node.get_output_partial_shape(0).rank != 4:
            continue
        axes, shape = known(node.input_value(1), model), node.get_output_partial_shape(0)
        if axes is None or not shape.is_static or [int(axis) % 4 for axis in axes.reshape(-1)] != [3]:
            continue
        sizes, kept = list(shape.to_shape()), node.get_attributes()
        rows = ops.reshape(node.input_value(0), np.array([sizes[0], -1, sizes[3]]), False)
        normal = ops.mvn(rows, np.array([2]), kept["normalize_variance"], kept["eps"], kept["eps_mode"])
        read_instead(node, ops.reshape(normal, np.array(sizes), False))


def gather_rows(model: ov.Model) -> None:
    """Gather rows [1, T, C] of one tile by an operation that knows nothing of other axes.

    It is no slower, and in 8 bits it lets products scale their own results: OpenVINO would pass that on to what a plain
    gather gives, as a layer of its own. Swin-B in 8 bits takes 1 % less time.
    """
    for node in model.get_ordered_ops():
        shape = node.get_input_partial_shape(0) if kind_of(node) == "Gather" else None
        if shape is None or not shape.is_static or len(shape) != 3 or shape[0] != 1:
            continue
        places, axis = known(node.input_value(1), model), known(node.input_value(2), model)
        if places is None or axis is None or places.ndim != 1 or min(places, default=-1) < 0 or int(axis) != 1:
            continue
        _, count, channels = shape.to_shape()
        rows = ops.reshape(node.input_value(0), np.array([count, channels]), False)
        taken = ops.gather_nd(rows, ops.constant(places.astype(np.int32)[:, None]), 0)
        read_instead(node, ops.reshape(taken, np.array([1, len(places), channels]), False))


def convolve_apart(model: ov.Model) -> None:
    """Convolve large maps one by one and add, instead of copying them behind each other for one convolution.

    The sum is made where the convolution writes. The small network, whose decoders have four maps of 128 x 128 px,
    takes 2.7 % less time, Swin-B 0.3 %. Maps of less than 64 x 64 px cost nothing to copy.
    """
    for node in model.get_ordered_ops():
        if kind_of(node) != "Convolution" or [made_by(node, place) for place in (0, 1)] != ["Concat", "Constant"]:
            continue
        joined, stored = (node.input_value(place).get_node() for place in (0, 1))
        shape = node.get_output_partial_shape(0)
        if joined.get_attributes()["axis"] % 4 != 1 or not shape.is_static or len(shape) != 4:
            continue
        if shape.to_shape()[2] * shape.to_shape()[3] < _LARGE:
            continue
        maps = [joined.input_value(place) for place in range(joined.get_input_size())]
        ends = np.cumsum([each.get_partial_shape().to_shape()[1] for each in maps])
        weights = np.split(stored.data, ends[:-1], axis=1)
        kept = [node.get_attributes()[name] for name in ("strides", "pads_begin", "pads_end", "dilations", "auto_pad")]
        apart = [ops.convolution(each, weight.copy(), *kept) for each, weight in zip(maps, weights, strict=True)]
        read_instead(node, reduce(ops.add, apart))


def keep_left_factors_short(model: ov.Model) -> None:
    """Let products with a stored first factor be in bf16, where bf16 holds it exactly: weights of a resize.

    OpenVINO keeps what is stored in float32 unless it is a second factor, and then multiplies in float32: 3.5 ms of
    Swin-B with UPerNet, 1.9 in bf16. What a convolution gives, by one tap of one, is not stored any more.
    """
    for node in model.get_ordered_ops():
        if kind_of(node) != "MatMul" or made_by(node, 0) != "Constant":
            continue
        stored = known(node.input_value(0), model)
        if stored is None or stored.dtype != np.float32 or np.any(stored.view(np.uint32) & 0xFFFF):
            continue
        shape = stored.shape
        image = ops.reshape(node.input_value(0), np.array([1, 1, -1, shape[-1]]), False)
        same = ops.convolution(image, np.ones((1, 1, 1, 1), np.float32), [1, 1], [0, 0], [0, 0], [1, 1])
        node.input(0).replace_source_output(ops.reshape(same, np.array(shape), False).output(0))


def bound_long_products(model: ov.Model) -> None:
    """Hold long products that go into a residual sum between the bounds of float32, which changes no finite number.

    A product without any function behind it is MLAS's in OpenVINO, one with a function is oneDNN's. In float32 the
    latter was 1.1 to 1.4 times as fast for the second products of Swin-B's perceptrons (1024 terms and more), and no
    slower for shorter ones (OpenVINO 2026.4, AMD EPYC Zen 4).
    """
    largest = float(np.finfo(np.float32).max)
    for node in model.get_ordered_ops():
        if kind_of(node) != "MatMul" or _terms(node) < _LONG:
            continue
        biased = only_reader(node, kind="Add")
        if biased is None or all(made_by(biased, place) != "Constant" for place in (0, 1)):
            continue
        if only_reader(biased, kind="Add") is None:
            continue
        (reader,) = biased.output(0).get_target_inputs()
        reader.replace_source_output(ops.clamp(biased, -largest, largest).output(0))


def sum_dates_apart(model: ov.Model) -> None:
    """Sum over dates before the channels of a head, where a graph sums over both at once.

    OpenVINO 2026.4 sums over two axes with others between and behind them one number at a time: of U-TAE's statistics,
    [1, 100, 64, 16, 8] over its third and last axis, 1.8 ms on two cores instead of 0.1 (AMD EPYC, Zen 4). The axes
    behind the dates are one between the two sums, for it would put neighbouring sums together again.
    """
    for node in model.get_ordered_ops():
        if kind_of(node) != "ReduceSum" or made_by(node, 1) != "Constant":
            continue
        shape = list(node.get_input_shape(0))
        dates, last = len(shape) - 3, len(shape) - 1
        if sorted(int(axis) % len(shape) for axis in node.input_value(1).get_node().data.reshape(-1)) != [dates, last]:
            continue
        rows = ops.reshape(node.input_value(0), np.array([*shape[: dates + 1], shape[-2] * shape[-1]]), False)
        summed = ops.reshape(
            ops.reduce_sum(rows, np.array([dates]), True), np.array([*shape[:dates], 1, *shape[-2:]]), False
        )
        total = ops.reduce_sum(summed, np.array([last]), True)
        read_instead(node, ops.reshape(total, np.array(node.get_output_shape(0)), False))


def shorten_streams(model: ov.Model) -> None:
    """Put a product that changes nothing behind each residual sum that leaves the graph as a map, for bf16.

    OpenVINO keeps float32 from an output back to the last products before it. Of an encoder whose maps are its residual
    streams that is every sum of them, with conversions around each: 4 % of Swin-T's time at 512 px. A convolution of
    one tap by one on each channel ends it, and costs a copy.
    """
    for result in model.get_results():
        turned = result.input_value(0).get_node()
        source = turned
        while kind_of(source) in ("Transpose", "Reshape", "Gather", "GatherND"):
            source = source.input_value(0).get_node()
        if kind_of(turned) != "Transpose" or kind_of(source) != "Add":
            continue
        ones = ops.constant(np.ones((turned.get_output_shape(0)[1], 1, 1, 1, 1), np.float32))
        same = ops.group_convolution(turned, ones, [1, 1], [0, 0], [0, 0], [1, 1])
        names = result.output(0).get_names()
        result.input(0).replace_source_output(same.output(0))
        turned.output(0).set_names(set())
        same.output(0).set_names(names)
    model.validate_nodes_and_infer_types()


def _terms(product: ov.Node) -> int:
    """Number of terms of a product with a stored matrix; 0 for any other."""
    if made_by(product, 1) != "Constant":
        return 0
    shape = product.input_value(1).get_shape()
    return int(shape[-1 if product.get_attributes()["transpose_b"] else 0]) if len(shape) == 2 else 0
