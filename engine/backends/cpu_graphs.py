"""OpenVINO graphs between the segments: fixed shapes, pyramid fusion, and its addition in front of a decoder."""

from __future__ import annotations

import numpy as np
import openvino as ov
from openvino import opset14 as ops

from ..plan.manifest import Manifest

__all__ = ["decode_graph", "fix_shapes", "fusion_graph", "level_shapes"]


def level_shapes(manifest: Manifest, modality: str) -> list[tuple[int, ...]]:
    """Shapes [1, C, Y, X] of the maps that the encoder of `modality` gives for one tile."""
    outputs = manifest.segment(f"encoder:{modality}").outputs
    return [tuple(1 if axis == "B" else int(axis) for axis in output.shape) for output in outputs]


def fix_shapes(model: ov.Model, *, batch: int, dates: int | None = None) -> ov.Model:
    """Give every input of a segment its batch and, for series, its number of dates."""
    shapes = {}
    for port in model.inputs:
        shape = list(port.get_partial_shape())
        sizes = [batch, dates if len(shape) in (2, 5) else None]
        for axis, size in enumerate(sizes):
            if size is not None and shape[axis].is_dynamic:
                shape[axis] = ov.Dimension(size)
        shapes[port.get_any_name()] = ov.PartialShape(shape)
    model.reshape(shapes)
    return model


def fusion_graph(manifest: Manifest, others: list[str]) -> ov.Model:
    """Sum of the pyramids of `others`, each map resized to the base's (bilinear, half pixel).

    Inputs are the maps of each modality in turn, finest first; outputs are the sums, finest first.
    """
    base = level_shapes(manifest, manifest.base)
    parameters = []
    sums: list[ov.Output | None] = [None] * len(base)
    for name in others:
        for level, (shape, target) in enumerate(zip(level_shapes(manifest, name), base, strict=True)):
            parameter = ops.parameter(shape, np.float32, name=f"{name}.level{level}")
            parameters.append(parameter)
            resized = _resize(parameter.output(0), target)
            total = sums[level]
            sums[level] = resized if total is None else ops.add(total, resized).output(0)
    return ov.Model([ops.result(total) for total in sums], parameters, "fusion")


def decode_graph(segment: ov.Model, manifest: Manifest) -> ov.Model:
    """The decoder of one task, taking the base's pyramid and, where there are others, their sum beside it."""
    decoder = fix_shapes(segment, batch=1)
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
