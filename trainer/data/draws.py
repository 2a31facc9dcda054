"""Which items a training sees, and in which order: a stream that its seed alone decides.

The stream has no end and does not know of epochs, processes or restarts: item number n is the same in every run of
one seed, so that a training that is taken up again, or split over more processes, goes on alike.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Sampler

__all__ = ["Draw", "Draws", "Shard"]


@dataclass(frozen=True, slots=True)
class Draw:
    """One item of the stream.

    Attributes:
        index: of the item in its data set.
        number: place in the stream, from which all chance of its augmentation follows.
    """

    index: int
    number: int


@dataclass(frozen=True)
class Shard:
    """What one process takes of every step.

    Attributes:
        batch: items of a step, over all processes and portions.
        processes: that share each step.
        process: number of this one.
        portions: one after the other, into which a process cuts its part for want of memory.

    Raises:
        ValueError: the batch cannot be divided.
    """

    batch: int
    processes: int = 1
    process: int = 0
    portions: int = 1

    def __post_init__(self) -> None:
        if self.batch < 1 or self.batch % (self.processes * self.portions):
            raise ValueError(
                f"a batch of {self.batch} over {self.processes} processes and {self.portions} portions each, expected "
                "a multiple of both; choose another batch"
            )

    @property
    def portion(self) -> int:
        """Items that go through the network at once."""
        return self.batch // (self.processes * self.portions)

    def numbers(self, step: int) -> Iterator[int]:
        """Places in the stream that this process takes for one step."""
        for portion in range(self.portions):
            start = step * self.batch + (portion * self.processes + self.process) * self.portion
            yield from range(start, start + self.portion)


class Draws(Sampler[Draw]):
    """The part of the stream that one process takes from one step to another.

    Args:
        count: items of the data set.
        seed: of the order.
        shard: of this process.
        steps: first step, and the one to stop before.
        weights: how much likelier an item is drawn, [count]; None takes each once before any comes again.

    Raises:
        ValueError: no item, or weights that are not numbers above 0, as many as items.
    """

    def __init__(
        self, count: int, *, seed: int, shard: Shard, steps: tuple[int, int], weights: Sequence[float] | None = None
    ) -> None:
        if count < 1:
            raise ValueError("no item to draw from, expected at least one; look at the split")
        self._count = count
        self._seed = seed
        self._shard = shard
        self._steps = steps
        self._odds = None if weights is None else _odds(weights, count)

    def __len__(self) -> int:
        return (self._steps[1] - self._steps[0]) * self._shard.portion * self._shard.portions

    def __iter__(self) -> Iterator[Draw]:
        lap, order = -1, np.zeros(0, np.intp)
        for step in range(*self._steps):
            for number in self._shard.numbers(step):
                if number // self._count != lap:
                    lap = number // self._count
                    order = self._order(lap)
                yield Draw(int(order[number % self._count]), number)

    def _order(self, lap: int) -> NDArray[np.intp]:
        """The items of one lap, which has as many as the data set."""
        rng = np.random.default_rng([self._seed, lap, 1])  # other numbers than those of any draw
        if self._odds is None:
            return rng.permutation(self._count)
        return rng.choice(self._count, self._count, p=self._odds)


def _odds(weights: Sequence[float], count: int) -> NDArray[np.float64]:
    given = np.asarray(weights, np.float64)
    if given.shape != (count,) or not np.all(np.isfinite(given)) or not np.all(given >= 0) or given.sum() <= 0:
        raise ValueError(f"weights for drawing {count} items, expected as many numbers of 0 or more; correct them")
    odds: NDArray[np.float64] = given / given.sum()
    return odds
