"""Which patches are learnt from, and which choose the best weights: places that are not in training."""

from __future__ import annotations

import math

import numpy as np

from ..data import DataSet, DataSetError, Patch

__all__ = ["hold_out"]


def hold_out(
    data_set: DataSet, wanted: float | tuple[str, ...], *, seed: int
) -> tuple[tuple[Patch, ...], tuple[Patch, ...]]:
    """Part the patches for training from those that choose the best weights.

    FLAIR-HUB's validation patches lie among those of training, so that they tell little of places that were not seen.
    Domains are held out; where training has one domain alone, regions of interest.

    Args:
        data_set: with a split "train".
        wanted: part of the places to hold out, drawn from the seed, or their names; 0 takes the split "valid" as it is.
        seed: of the draw.

    Returns:
        Patches to learn from, and patches to choose by. Patches of the split "valid" that lie in places which are
        learnt from are in neither.

    Raises:
        DataSetError: no such place, or nothing would be left.
    """
    train = data_set.split("train").patches
    if wanted in (0, ()):
        return train, data_set.split("valid").patches
    others = data_set.splits["valid"].patches if "valid" in data_set.splits else ()
    by_domain = len({patch.id.domain for patch in train}) > 1

    def place(patch: Patch) -> str:
        return patch.id.domain if by_domain else patch.id.region

    places = sorted({place(patch) for patch in train})
    if isinstance(wanted, tuple):
        strangers = sorted(set(wanted) - set(places))
        if strangers:
            raise DataSetError(
                f"{', '.join(strangers)} cannot be held out, places of training are {', '.join(places)}; correct them"
            )
        held = set(wanted)
    else:
        count = max(1, math.floor(wanted * len(places)))
        held = set(np.random.default_rng([seed, 2]).permutation(places)[:count].tolist())
    learnt = tuple(patch for patch in train if place(patch) not in held)
    chosen = tuple(patch for patch in (*train, *others) if place(patch) in held)
    if not learnt:
        raise DataSetError(
            f"nothing is left to learn from once {', '.join(sorted(held))} are held out; hold out less, or say "
            "hold_out: 0 to choose by the split valid"
        )
    return learnt, chosen
