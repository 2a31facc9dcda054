"""Which layers of a plan compute in 8 bits on processors, so that its maps lose no more than the user allows.

Images' encoders and decoders, the largest first, each by NNCF (`accuracy_control`) inside the whole plan, in which
those before it are quantised already; the limit is one for all of them together. Series stay in float32, as always on a
processor. What is stored are ONNX graphs with QuantizeLinear and DequantizeLinear; their maps are unsigned.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx
from numpy.typing import NDArray

from ..backends.cpu.precision import choose_precision, multiplies_8_bits
from ..backends.cpu.segments import Pyramid
from ..backends.cpu.steps import Features
from ..errors import BackendError
from ..plan.payloads import QuantisedPayload
from ..plan.plan import Plan
from .accuracy import FloatMaps
from .accuracy_control import controlled_ranges
from .calibrate import candidates, read_model
from .layers import Layer
from .pipeline import Graph, Pipeline, Run, TileMap
from .quantise import quantise
from .tiles import CalibrationTiles

__all__ = ["ProcessorQuantisation", "quantise_for_processor"]

_SHARES = (1.0, 0.5, 0.25)
"""Of what is left of the limit: NNCF's form of a segment and the one that is written round some sums differently."""


@dataclass(frozen=True)
class ProcessorQuantisation:
    """What is added to a plan.

    Attributes:
        payload: what the manifest says of it.
        members: name -> content.
        miou_drop: points of mean IoU that the worst task loses on the accuracy tiles; see `FloatMaps.drop`.
    """

    payload: QuantisedPayload
    members: Mapping[str, bytes]
    miou_drop: float


def quantise_for_processor(
    plan: Plan,
    *,
    tiles: CalibrationTiles,
    max_miou_drop: float,
    say: Callable[[str], None] = lambda _: None,
    threads: int | None = None,
) -> ProcessorQuantisation:
    """Make 8-bit segments of a plan's images and decoders.

    Args:
        plan: an open plan.
        tiles: of the user.
        max_miou_drop: points of mean IoU that no task may lose on the accuracy tiles; see `FloatMaps.drop`.
        say: is told what happens, a sentence at a time.
        threads: of the processor; None takes all that this process may use.

    Raises:
        BackendError: nothing can be quantised within the limit, or the processor's 8-bit products are wrong.
        PlanError: a segment is no valid graph.
        TileError: the tiles are not what the plan takes.
    """
    if not multiplies_8_bits():
        raise BackendError(
            "the processor's 8-bit products overflow (it has no VNNI), so that nothing can be measured on it; build "
            "on a processor of the kind that will run the plan"
        )
    unquantised = plan.manifest.model_copy(update={"quantised": None})
    rest = choose_precision("auto", manifest=unquantised).rest
    with Pipeline(plan, threads=threads) as pipeline:
        work = _Work(plan, pipeline, tiles, limit=max_miou_drop, rest=rest)
        say(f"in {rest}, without quantisation: {work.drop:.2f} points of mean IoU lost")
        layers = candidates(plan, kind="uint8")
        for name in sorted(layers, key=lambda name: -plan.manifest.segment(name).gflop):
            work.quantise(name, layers[name])
            count = len(work.layers.get(name, ()))
            say(f"{name}: {count} of {len(layers[name])} layers in 8 bits, {work.drop:.2f} points of mean IoU lost")
        return work.finished(layers)


class _Work:
    """A plan as it will run, whose segments are quantised one after the other."""

    def __init__(self, plan: Plan, pipeline: Pipeline, tiles: CalibrationTiles, *, limit: float, rest: str) -> None:
        self._plan, self._pipeline, self._tiles, self._limit, self._rest = plan, pipeline, tiles, limit, rest
        self._ranged, self._measured = (tuple(s.checked(plan.manifest) for s in each) for each in tiles)
        self._truth = [pipeline.map(tile) for tile in self._measured]
        segments = (segment.name for segment in plan.manifest.segments if segment.role != "absent")
        self._graphs = {name: self._graph(name) for name in segments if not self._is_series(name)}
        self._features = [pipeline.encode(tile, self._graphs) for tile in self._measured]
        self._maps = [pipeline.decode(features, self._graphs) for features in self._features]
        self._models: dict[str, onnx.ModelProto] = {}
        self.layers: dict[str, tuple[str, ...]] = {}

    @property
    def drop(self) -> float:
        """Points of mean IoU lost so far, what is not quantised being in its own type."""
        return self._float_maps(range(len(self._truth))).drop(self._maps)

    def quantise(self, name: str, layers: Sequence[Layer]) -> None:
        """Quantise one segment within what is left of the limit."""
        model = read_model(self._plan, name)
        inputs = self._inputs(name)
        left = self._limit - self.drop
        if not inputs or left < 0:
            return

        def validate(run: Run, places: Sequence[int]) -> tuple[float, list[float]]:
            maps = [self._mapped(name, run, place) for place in places]
            each = [self._float_maps([place]).drop([one]) for place, one in zip(places, maps, strict=True)]
            return self._float_maps(places).drop(maps), each

        for share in _SHARES:
            ranges = controlled_ranges(
                model,
                layers=layers,
                inputs=inputs,
                tiles=len(self._measured),
                max_drop=share * left,
                validate=validate,
            )
            if not ranges:
                return
            made = quantise(model, ranges=ranges, layers=ranges, kind="uint8")
            graph = self._graph(name, made)
            features = [self._encoded(name, graph, place) for place in range(len(self._measured))]
            maps = [self._pipeline.decode(each, {**self._graphs, name: graph}) for each in features]
            if self._float_maps(range(len(maps))).drop(maps) <= self._limit:
                self._models[name], self._graphs[name], self.layers[name] = made, graph, tuple(ranges)
                self._features, self._maps = features, maps
                return

    def finished(self, layers: Mapping[str, Sequence[Layer]]) -> ProcessorQuantisation:
        """What was quantised of `layers`.

        Raises:
            BackendError: nothing.
        """
        if not self._models:
            raise BackendError(
                f"no segment can compute in 8 bits and lose at most {self._limit:g} points of mean IoU, {self._rest} "
                f"alone loses {self.drop:.2f}; allow more with --max-miou-drop, or use the plan as it is"
            )
        back = [
            f"{name}/{layer.name}"
            for name, each in layers.items()
            for layer in each
            if layer.name not in self.layers.get(name, ())
        ]
        members = {name: f"quantised/{name.replace(':', '.')}.onnx" for name in self._models}
        payload = QuantisedPayload(
            segments=members,
            float_layers=tuple(back),
            max_miou_drop=self._limit,
            agreement=self._float_maps(range(len(self._truth))).agreement(self._maps),
            parameters=sum(_stored(self._models[name], layers[name], self.layers[name]) for name in members),
        )
        contents = {members[name]: model.SerializeToString(deterministic=True) for name, model in self._models.items()}
        return ProcessorQuantisation(payload, contents, self.drop)

    def _graph(self, name: str, model: onnx.ModelProto | None = None) -> Graph:
        """A segment as it will run: see `CpuSegments`."""
        role, subject = name.split(":", 1)
        wide = role == "encoder" and self._plan.manifest.modality(subject).dtype == "float32"
        precision = "float32" if wide else self._rest
        return Graph(model or read_model(self._plan, name), threads=self._pipeline.threads, precision=precision)

    def _is_series(self, name: str) -> bool:
        role, subject = name.split(":", 1)
        return role == "encoder" and self._plan.manifest.modality(subject).kind == "series"

    def _inputs(self, name: str) -> list[tuple[NDArray[np.float32], ...]]:
        """What a segment takes on the tiles that give ranges, those before it being quantised."""
        found: list[tuple[NDArray[np.float32], ...]] = []

        def keeping(*inputs: NDArray[np.float32]) -> Pyramid:
            found.append(tuple(np.array(array) for array in inputs))
            return self._graphs[name](*inputs)

        role, subject = name.split(":", 1)
        for tile in self._ranged:
            if role == "decode":
                self._pipeline.map(tile, {**self._graphs, name: keeping})
            elif subject in tile:
                self._pipeline.encode({subject: tile[subject]}, {name: keeping})
        return found

    def _mapped(self, name: str, run: Run, place: int) -> dict[str, TileMap]:
        return self._pipeline.decode(self._encoded(name, run, place), {**self._graphs, name: run})

    def _encoded(self, name: str, run: Run, place: int) -> Features:
        """Features of a tile with another encoder in place of one; as they are where `name` is a decoder."""
        known = self._features[place]
        role, subject = name.split(":", 1)
        tile = self._measured[place]
        if role == "decode" or subject not in tile:
            return known
        return self._pipeline.encode({subject: tile[subject]}, {name: run}, known=replace(known, rest=None))

    def _float_maps(self, places: Sequence[int]) -> FloatMaps:
        samples = [self._tiles.accuracy[place] for place in places]
        return FloatMaps(self._plan.manifest, [self._truth[place] for place in places], samples=samples)


def _stored(model: onnx.ModelProto, layers: Sequence[Layer], chosen: Sequence[str]) -> int:
    """Number of weights in 8 bits."""
    sizes = {tensor.name: int(np.prod(tensor.dims)) for tensor in model.graph.initializer}
    weights = {layer.weight for layer in layers if layer.name in chosen}
    return sum(sizes[f"{name}.quantised"] for name in weights)
