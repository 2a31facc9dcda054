"""How few layers have to stay in floating point for a limit to hold."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..errors import BackendError
from ..plan.payloads import Agreement
from ..plan.plan import Plan
from ..tiles import Tile
from .accuracy import FloatMaps
from .calibrate import LayerKey, Ranges, read_model
from .eight_bits import Kind
from .pipeline import Graph, Pipeline
from .quantise import imitate

__all__ = ["Outcome", "Trial", "fewest", "give_back"]


@dataclass(frozen=True)
class Outcome:
    """What a trial found.

    Attributes:
        given_back: layers in floating point.
        layers: segment -> layers in 8 bits.
        miou_drop: points of mean IoU that the worst task loses.
        agreement: with the plan in float32.
    """

    given_back: tuple[LayerKey, ...]
    layers: dict[str, tuple[str, ...]]
    miou_drop: float
    agreement: tuple[Agreement, ...]


class Trial:
    """A plan on tiles with some of its layers in 8 bits, imitated in float32.

    Args:
        plan: an open plan.
        pipeline: of the plan.
        ranges: segment -> layer -> range.
        kind: of numbers.
        tiles: checked tiles.
        float_maps: the plan's maps of them in float32.
    """

    def __init__(
        self,
        plan: Plan,
        pipeline: Pipeline,
        *,
        ranges: Ranges,
        kind: Kind,
        tiles: Sequence[Tile],
        float_maps: FloatMaps,
    ) -> None:
        self._plan, self._pipeline, self._tiles, self._float_maps = plan, pipeline, tiles, float_maps
        self._ranges: Ranges = ranges
        self._kind: Kind = kind
        self._graphs: dict[str, tuple[tuple[str, ...], Graph]] = {}

    def __call__(self, given_back: Sequence[LayerKey]) -> Outcome:
        """Map the tiles with all layers in 8 bits but those given back."""
        back = set(given_back)
        layers = {
            name: tuple(layer for layer in each if (name, layer) not in back) for name, each in self._ranges.items()
        }
        for name, each in layers.items():
            if name not in self._graphs or self._graphs[name][0] != each:
                model = read_model(self._plan, name)
                model = imitate(model, ranges=self._ranges[name], layers=each, kind=self._kind)
                self._graphs[name] = each, Graph(model, threads=self._pipeline.threads)
        graphs = {name: graph for name, (_, graph) in self._graphs.items()}
        maps = [self._pipeline.map(tile, graphs) for tile in self._tiles]
        used = {name: each for name, each in layers.items() if each}
        return Outcome(tuple(given_back), used, self._float_maps.drop(maps), self._float_maps.agreement(maps))


def give_back(
    trial: Callable[[Sequence[LayerKey]], Outcome],
    worst_first: Sequence[LayerKey],
    *,
    limit: float,
    say: Callable[[str], None],
) -> Outcome:
    """The trial with the fewest layers in floating point that keeps within a limit.

    Args:
        trial: what is tried.
        worst_first: all layers, those that hurt most first.
        limit: points of mean IoU that may be lost.
        say: is told of every trial.

    Raises:
        BackendError: not even one layer can compute in 8 bits.
    """
    outcomes: dict[int, Outcome] = {}

    def holds(count: int) -> bool:
        outcomes[count] = outcome = trial(worst_first[:count])
        say(f"{count} of {len(worst_first)} layers in floating point: {outcome.miou_drop:.2f} points of mean IoU lost")
        return outcome.miou_drop <= limit

    count = fewest(len(worst_first) - 1, holds)
    if count is None:
        least = f"; {min(outcome.miou_drop for outcome in outcomes.values()):.2f} was the least" if outcomes else ""
        raise BackendError(
            f"no layer can compute in 8 bits and lose at most {limit:g} points of mean IoU{least}; allow more with "
            "--max-miou-drop, or build with --precision fp16"
        )
    return outcomes[count]


def fewest(most: int, holds: Callable[[int], bool]) -> int | None:
    """The smallest number from 0 to `most` at which something holds; None where it never does.

    By bisection: what holds at a number is taken to hold at larger ones. What is returned was tried in any case.
    """
    found = None
    low, high = -1, most + 1
    while high - low > 1:
        middle = 0 if found is None and low < 0 else (low + high) // 2
        if holds(middle):
            high = found = middle
        else:
            low = middle
    return found
