"""How fast patches are loaded, step by step: `python -m uperfuse.trainer.data.speed ROOT`.

Times are processor time of one process, so that other work on the machine counts little. Reading is GDAL's work and
preparation the engine's; what remains is Python's.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from ..training import build, read_config
from .augment import Augmentation
from .choose import choose
from .collate import collate
from .data_set import DataSet
from .prepare import Prepared, prepare_sample
from .reading import read_sample

__all__ = ["Speed", "measure"]

_BATCH = 5
_NETWORK = "uperfuse-small"


@dataclass(frozen=True)
class Speed:
    """Processor seconds of each step for one patch of all seven modalities and both labels."""

    seconds: dict[str, float]

    @property
    def patches_per_minute(self) -> float:
        """Patches that one core loads in a minute."""
        return 60 / sum(self.seconds.values())


def measure(root: Path, *, split: str = "train", most: int = 100) -> Speed:
    """Load some patches, each twice, and time the second time, when its files are in memory.

    Args:
        root: of a data set.
        split: whose patches are loaded.
        most: how many at most.
    """
    data_set, modalities, augmentation = DataSet.open(root), build(read_config(_NETWORK)).modalities, Augmentation()
    patches = data_set.split(split).patches[:most]
    spent = dict.fromkeys(("read", "choose", "augment", "prepare", "collate"), 0.0)

    @contextmanager
    def timed(step: str) -> Iterator[None]:
        start = time.process_time()
        yield
        spent[step] += time.process_time() - start

    rng = np.random.default_rng(0)
    ready: list[Prepared] = []
    for patch in patches:
        read_sample(data_set.root, patch, dates=data_set.dates)
        with timed("read"):
            sample = read_sample(data_set.root, patch, dates=data_set.dates)
        with timed("choose"):
            sample = choose(sample, modalities)
        with timed("augment"):
            sample = augmentation(sample, rng)
        with timed("prepare"):
            ready.append(prepare_sample(sample, modalities))
        if len(ready) == _BATCH:
            with timed("collate"):
                collate(ready)
            ready.clear()
    return Speed({step: seconds / len(patches) for step, seconds in spent.items()})


def main(root: Annotated[Path, typer.Argument(help="Folder of a data set.")], split: str = "train") -> None:
    """Print what each step takes, and how many patches a core loads in a minute."""
    speed = measure(root, split=split)
    for step, seconds in speed.seconds.items():
        print(f"{step:8} {1e3 * seconds:7.2f} ms a patch")
    print(f"{speed.patches_per_minute:.0f} patches a minute and core")


if __name__ == "__main__":
    typer.run(main)
