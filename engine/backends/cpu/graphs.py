"""OpenVINO graphs between the segments: fixed shapes, pyramid fusion, and its addition in front of a decoder."""

from __future__ import annotations

from collections.abc import Mapping
from functools import reduce

import numpy as np
import openvino as ov
from numpy.typing import NDArray
from openvino import opset14 as ops

from ...errors import PlanError
from ...plan.manifest import Manifest
from ...plan.network import Segment
from ..doors import shape_of
from .nodes import fold_constants, only_reader

__all__ = [
    "constants",
    "decode_graph",
    "fix_shapes",
    "fusion_graph",
    "joined_graph",
    "level_shapes",
    "split_stem",
]


def level_shapes(manifest: Manifest, modality: str) -> list[tuple[int, ...]]:
    """Shapes [1, C, Y, X] of the maps that the encoder of `modality` gives for one tile."""
    return [shape_of(output) for output in manifest.segment(f"encoder:{modality}").outputs]


def fix_shapes(model: ov.Model, segment: Segment, *, dates: int | None = None) -> ov.Model:
    """Give a segment the shapes of one tile and, for a series, of a number of dates; compare them with its doors.

    Raises:
        PlanError: the graph takes or gives something else than the plan lists.
    """
    listed = [*segment.inputs, *segment.outputs]
    doors, names = [port.get_any_name() for port in (*model.inputs, *model.outputs)], [spec.name for spec in listed]
    if doors != names:
        raise PlanError(f"segment {segment.name} has doors {doors}, its plan lists {names}; export it again")
    try:
        if segment.inputs:
            model.reshape({spec.name: ov.PartialShape(shape_of(spec, dates=dates)) for spec in segment.inputs})
    except RuntimeError as error:
        raise PlanError(f"segment {segment.name} does not take the shapes its plan lists; export it again") from error
    for port, spec in zip((*model.inputs, *model.outputs), listed, strict=True):
        shape, kind = port.get_partial_shape(), port.get_element_type()
        expected = shape_of(spec, dates=dates)
        if kind != ov.Type.f32 or shape != ov.PartialShape(expected):
            raise PlanError(
                f"segment {segment.name} has {kind.get_type_name()} of shape {shape} at {spec.name}, its plan lists "
                f"f32 of shape {list(expected)}; export it again"
            )
    return model


def constants(model: ov.Model, segment: Segment) -> list[NDArray[np.float32]]:
    """Tensors that a graph without inputs gives.

    Raises:
        PlanError: the graph computes them instead of storing them.
    """
    fixed = fix_shapes(model, segment)
    sources = [port.get_node().input_value(0).get_node() for port in fixed.outputs]
    if any(source.get_type_name() != "Constant" for source in sources):
        raise PlanError(f"segment {segment.name} computes, expected stored tensors; export it again")
    return [np.array(source.data) for source in sources]


def split_stem(encoder: ov.Model) -> tuple[ov.Model, ov.Model] | None:
    """Cut an image encoder behind its first normalisation, which follows its first convolution.

    Returns:
        The layers up to there and the rest, which takes what they give; None where there is no such place.
    """
    fold_constants(encoder)
    ordered = iter(encoder.get_ordered_ops())
    end = next((node for node in ordered if node.get_type_name() == "MVN"), None)
    for kind in ("Multiply", "Add"):  # its scale and its shift
        end = None if end is None else only_reader(end, kind=kind)
    if end is None:
        return None
    readers = end.output(0).get_target_inputs()
    stem = ov.Model([ops.result(end.output(0))], encoder.get_parameters(), "stem").clone()
    bridge = ops.parameter(list(end.output(0).get_shape()), np.float32, name="stem")
    for reader in readers:
        reader.replace_source_output(bridge.output(0))
    try:
        return stem, ov.Model(encoder.get_results(), [bridge], "rest")
    except RuntimeError:  # something behind the cut reads what lies before it
        return None


def fusion_graph(manifest: Manifest, others: list[str]) -> ov.Model:
    """Sum of the pyramids of `others`, each map resized to the base's (bilinear, half pixel).

    Maps of one size are added before they are resized, which gives the same up to rounding: the series of a tile lie on
    one grid. Inputs are the maps of each modality in turn, finest first; outputs are the sums, finest first.
    """
    base = level_shapes(manifest, manifest.base)
    parameters = []
    by_size: list[dict[tuple[int, ...], ov.Output]] = [{} for _ in base]
    for name in others:
        for level, shape in enumerate(level_shapes(manifest, name)):
            parameter = ops.parameter(shape, np.float32, name=f"{name}.level{level}")
            parameters.append(parameter)
            of_size = by_size[level]
            alike = of_size.get(shape)
            of_size[shape] = parameter.output(0) if alike is None else ops.add(alike, parameter).output(0)
    sums = []
    for of_size, target in zip(by_size, base, strict=True):
        first, *rest = (_resize(map_, target) for map_ in of_size.values())
        sums.append(reduce(lambda total, other: ops.add(total, other).output(0), rest, first))
    return ov.Model([ops.result(total) for total in sums], parameters, "fusion")


def decode_graph(decoder: ov.Model, manifest: Manifest) -> ov.Model:
    """The decoder of one task, taking the base's pyramid and, where there are others, their sum beside it."""
    count = len(manifest.modalities)
    if count == 1:
        return decoder
    rest = []
    for parameter in decoder.get_parameters():
        readers = parameter.output(0).get_target_inputs()
        other = ops.parameter(list(parameter.get_output_shape(0)), np.float32, name=f"rest.{parameter.friendly_name}")
        total = ops.add(parameter, other)
        if manifest.fusion == "mean":
            total = ops.multiply(total, np.float32(1.0 / count))
        for reader in readers:
            reader.replace_source_output(total.output(0))
        rest.append(other)
    decoder.add_parameters(rest)
    decoder.validate_nodes_and_infer_types()
    return decoder


def joined_graph(encoder: ov.Model, decoders: Mapping[str, ov.Model]) -> ov.Model:
    """The base's encoder and all decoders as one graph: its maps stay in the layout and precision of the processor.

    Inputs are the encoder's and, where there are other modalities, their sums; outputs are logits of the tasks in turn.

    Args:
        encoder: of the base.
        decoders: task -> what `decode_graph` gave; all of the same shapes.
    """
    maps = [result.input_value(0) for result in encoder.get_results()]
    rest: list[ov.Node] = []
    results = []
    for task, decoder in decoders.items():
        own, others = decoder.get_parameters()[: len(maps)], decoder.get_parameters()[len(maps) :]
        if not rest:
            rest = [
                ops.parameter(list(each.get_output_shape(0)), np.float32, name=each.friendly_name) for each in others
            ]
        for parameter, source in zip((*own, *others), (*maps, *(each.output(0) for each in rest)), strict=True):
            for reader in parameter.output(0).get_target_inputs():
                reader.replace_source_output(source)
        (result,) = decoder.get_results()
        result.input_value(0).set_names({f"logits:{task}"})
        results.append(result)
    return ov.Model(results, [*encoder.get_parameters(), *rest], "joined")


def _resize(map_: ov.Output, target: tuple[int, ...]) -> ov.Output:
    if tuple(map_.get_shape()) == target:
        return map_
    sizes = np.array(target[2:], np.int64)
    resized = ops.interpolate(
        map_,
        sizes,
        mode="linear_onnx",
        shape_calculation_mode="sizes",
        coordinate_transformation_mode="half_pixel",
        axes=np.array([2, 3], np.int64),
    )
    return resized.output(0)
