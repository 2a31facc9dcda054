"""A plain training loop on the simulated world; it made the small plan in `models/`."""

from .loop import Recipe, train
from .scores import Scores, score
from .small import small_modalities, small_network
from .world import TrainingTile, simulate_tiles

__all__ = [
    "Recipe",
    "Scores",
    "TrainingTile",
    "score",
    "simulate_tiles",
    "small_modalities",
    "small_network",
    "train",
]
