"""Which layers of a plan compute in 8 bits on TensorRT, so that its maps lose no more than the user allows.

All layers that can start in 8 bits. Those that hurt most go back to floating point, as few as the limit needs: layers
are ranked once, by how far off their own result is (`local_errors`), and the number to give back is found by bisection.
Every trial maps the accuracy tiles with the whole plan, its rounded products computed in float32 (`imitate`): sums of
8-bit products are exact, so this is what a GPU gives, up to the type of what stays in floating point.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import onnx

from ..plan.payloads import Agreement
from ..plan.plan import Plan
from ..rasters.scene import Scene
from .accuracy import FloatMaps
from .calibrate import Ranges, candidates, local_errors, ranges_of
from .eight_bits import Kind
from .part_graph import FloatPart
from .pipeline import Pipeline
from .quantise import quantise
from .search import Trial, give_back
from .tiles import CalibrationTiles, tiles_of_scene

__all__ = ["Quantisation", "quantise_for_tensorrt", "quantise_part", "quantise_scene"]

_RANKING_TILES = 4


@dataclass(frozen=True)
class Quantisation:
    """Which products of a plan compute in 8 bits, and what that costs.

    Attributes:
        kind: of numbers.
        ranges: segment -> layer -> values of the map that it multiplies.
        layers: segment -> layers that compute in 8 bits.
        float_layers: layers that could and do not, as `<segment>/<layer>`, the worst first.
        miou_drop: points of mean IoU that the worst task loses on the accuracy tiles; see `FloatMaps.drop`.
        agreement: with the plan in float32, on the accuracy tiles.
    """

    kind: Kind
    ranges: Ranges
    layers: Mapping[str, tuple[str, ...]]
    float_layers: tuple[str, ...]
    miou_drop: float
    agreement: tuple[Agreement, ...]


def quantise_for_tensorrt(
    plan: Plan,
    *,
    tiles: CalibrationTiles,
    kind: Literal["int8", "fp8"],
    max_miou_drop: float,
    say: Callable[[str], None] = lambda _: None,
    threads: int | None = None,
) -> Quantisation:
    """Choose ranges and layers for explicit quantisation.

    Args:
        plan: an open plan.
        tiles: of the user.
        kind: of numbers.
        max_miou_drop: points of mean IoU that no task may lose on the accuracy tiles; see `FloatMaps.drop`.
        say: is told what happens, a sentence at a time.
        threads: of the processor; None takes all that this process may use.

    Raises:
        BackendError: the limit does not hold with a single layer in 8 bits.
        PlanError: a segment is no valid graph, or overflows on the tiles.
        TileError: the tiles are not what the plan takes.
    """
    ranged, measured = (tuple(sample.checked(plan.manifest) for sample in each) for each in tiles)
    with Pipeline(plan, threads=threads) as pipeline:
        layers = candidates(plan, kind=kind)
        ranges = ranges_of(plan, pipeline, layers=layers, tiles=ranged)
        for name in sorted(set(layers) - set(ranges)):
            say(f"{name} stays in floating point: no tile gives it anything")
        say(f"ranges of {sum(map(len, ranges.values()))} layers, from {len(ranged)} tiles")
        errors = local_errors(plan, pipeline, layers=layers, ranges=ranges, tiles=ranged[:_RANKING_TILES], kind=kind)
        float_maps = FloatMaps(plan.manifest, [pipeline.map(tile) for tile in measured], samples=tiles.accuracy)
        trial = Trial(plan, pipeline, ranges=ranges, kind=kind, tiles=measured, float_maps=float_maps)
        worst_first = sorted(errors, key=lambda key: (-errors[key], key))
        outcome = give_back(trial, worst_first, limit=max_miou_drop, say=say)
    back = tuple(f"{segment}/{layer}" for segment, layer in outcome.given_back)
    return Quantisation(kind, ranges, outcome.layers, back, outcome.miou_drop, outcome.agreement)


def quantise_part(part: FloatPart, quantisation: Quantisation) -> FloatPart:
    """A part with its share of a plan's 8-bit products.

    Matrix products in int8 are to be typed in float32, with their pairs: their results are sums of whole numbers that
    are scaled after they were written. TensorRT-RTX writes them in the type of the product, and of float16 they use up
    a fifth in the small plan (13,600 of 65,504); its engines are as many kernels either way. It writes convolutions in
    float32 whatever they are typed in, and scales products in FP8 before it writes them.

    Args:
        part: a segment in float32, or what was cut from one.
        quantisation: of the plan.
    """
    nodes = {node.name for node in part.model.graph.node} - part.float_nodes
    layers = [name for name in quantisation.layers.get(part.segment, ()) if name in nodes]
    if not layers:
        return part
    model = quantise(part.model, ranges=quantisation.ranges[part.segment], layers=layers, kind=quantisation.kind)
    wide = _matrix_products(model.graph, layers) if quantisation.kind == "int8" else frozenset()
    return replace(part, model=model, float_nodes=part.float_nodes | wide)


def _matrix_products(graph: onnx.GraphProto, layers: Sequence[str]) -> frozenset[str]:
    """Names of the matrix products among layers and of what rounds their inputs."""
    makers = {node.output[0]: node for node in graph.node}
    waiting = [node for node in graph.node if node.name in set(layers) and node.op_type != "Conv"]
    found = set()
    while waiting:
        node = waiting.pop()
        found.add(node.name)
        before = (makers[name] for name in node.input if name in makers)
        waiting += [each for each in before if each.op_type in ("QuantizeLinear", "DequantizeLinear")]
    return frozenset(found)


def quantise_scene(
    scene: Scene,
    *,
    kind: Literal["int8", "fp8"],
    max_miou_drop: float,
    labels: Mapping[str, Path] | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> Callable[[Plan], Quantisation]:
    """What chooses the quantisation of a plan on the tiles of a scene.

    Args:
        scene: rasters of the user.
        kind: of numbers.
        max_miou_drop: points of mean IoU that no task may lose.
        labels: task -> raster of its truth, where the user has one.
        say: is told what happens, a sentence at a time.
    """

    def choose(plan: Plan) -> Quantisation:
        tiles = tiles_of_scene(scene, plan.manifest, labels=labels)
        return quantise_for_tensorrt(plan, tiles=tiles, kind=kind, max_miou_drop=max_miou_drop, say=say)

    return choose
