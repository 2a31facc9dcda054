"""Sensors that are left out at random, so that a network learns to do without them."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np

__all__ = ["draw_absent"]


def draw_absent(held: Collection[str], probabilities: Mapping[str, float], rng: np.random.Generator) -> frozenset[str]:
    """Modalities of one patch to leave out; at least one of those that it has stays.

    Each is left out with its own probability. Where all would be, one stays that is drawn among those which may be.

    Args:
        held: modalities that the patch has.
        probabilities: modality -> probability; one that is not named always stays.
        rng: source of chance.
    """
    # one number for each, whatever the patch has, so that patches differ by their numbers alone
    chances = {name: float(rng.random()) for name in probabilities}
    one = float(rng.random())
    dropped = [name for name in held if name in chances and chances[name] < probabilities[name]]
    if dropped and len(dropped) == len(held):
        dropped.pop(int(one * len(dropped)))
    return frozenset(dropped)
