"""Crops from series: the network and the forest on the same folds of parcels, apart in space."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import StratifiedGroupKFold

from uperfuse.engine.flairhub import MODALITIES
from uperfuse.trainer.data import Augmentation, make_loader
from uperfuse.trainer.losses import TaskLoss, class_weights
from uperfuse.trainer.network import NetworkSpec, SeriesSpec, TaskSpec, UPerFuse
from uperfuse.trainer.training import Objective, Recipe, fit

from .forests import TREES
from .parcels import Parcels, grid_cells
from .seasons import TASK, Seasons, describe

__all__ = ["Fold", "Learning", "by_forest", "by_network", "crop_network", "folds"]

Rows = NDArray[np.intp]
Labels = NDArray[np.int64]
Probabilities = NDArray[np.float32]


@dataclass(frozen=True)
class Fold:
    """Parcels to learn from and others, in other squares of ground, to be tested on."""

    train: Rows
    test: Rows


@dataclass(frozen=True)
class Learning:
    """How the network learns.

    Attributes:
        epochs: passes over the parcels of training.
        batch: parcels of one update.
        learning_rate: peak of the cycle.
        weight_decay: of AdamW.
        power: of the class weights; 0 weighs all alike.
        widths: channels of the encoder and the decoder.
        networks: that begin with weights of their own, and whose probabilities are averaged.
        augmentation: of the series.
    """

    epochs: int = 50
    batch: int = 32
    learning_rate: float = 5e-3
    weight_decay: float = 0.1
    power: float = 0.0
    widths: tuple[int, ...] = (32, 32)
    networks: int = 3
    augmentation: Augmentation = field(
        default_factory=lambda: Augmentation(turns=False, dropped_dates=0.5, jitter_days=10, jitter=0.1)
    )


def folds(parcels: Parcels, *, count: int, side_km: float, seed: int) -> Iterator[Fold]:
    """Cut parcels into folds of whole squares of ground, classes spread over them as evenly as squares allow."""
    cells = grid_cells(parcels.lon_lat, side_km=side_km)
    splitter = StratifiedGroupKFold(count, shuffle=True, random_state=seed)
    for train, test in splitter.split(cells, parcels.labels, cells):
        yield Fold(train, test)


def by_forest(parcels: Parcels, fold: Fold, *, seed: int) -> Labels:
    """Classes of the fold's test parcels, by a forest on the values of all months; months without are left to it."""
    rows = np.concatenate([values.reshape(len(parcels), -1) for values in parcels.values.values()], axis=1)
    forest = RandomForestClassifier(TREES, random_state=seed)
    forest.fit(rows[fold.train], parcels.labels[fold.train])
    found: Labels = forest.predict(rows[fold.test])
    return found


def crop_network(bands: dict[str, int], *, classes: int, widths: tuple[int, ...]) -> NetworkSpec:
    """A network of series alone: a U-TAE each, whose scores are averaged.

    Args:
        bands: series -> number of its bands.
        classes: to tell apart.
        widths: channels of the encoders and decoders.
    """
    series = tuple(
        SeriesSpec(
            name, bands[name], widths, widths, heads=4, d_key=4, d_model=widths[-1], out_widths=(widths[0], classes)
        )
        for name in MODALITIES
        if name in bands
    )
    return NetworkSpec((), series, (TaskSpec(TASK, classes),))


def by_network(parcels: Parcels, fold: Fold, *, learning: Learning, seed: int) -> Probabilities:
    """Probabilities of the classes of the fold's test parcels, [N, K], by a network that begins with random weights."""
    modalities = describe(parcels, fold.train)
    classes = len(parcels.classes)
    torch.manual_seed(seed)
    bands = {name: len(names) for name, names in parcels.bands.items()}
    network = UPerFuse(crop_network(bands, classes=classes, widths=learning.widths))
    known = [False] * classes
    counts = np.bincount(parcels.labels[fold.train], minlength=classes)
    weights = class_weights(counts, ignored=known, power=learning.power) if learning.power else None
    train, test = (
        Seasons(parcels, rows, modalities=modalities, augmentation=learning.augmentation, seed=seed)
        for rows in (fold.train, fold.test)
    )
    recipe = Recipe(
        epochs=learning.epochs,
        batch=learning.batch,
        learning_rate=learning.learning_rate,
        weight_decay=learning.weight_decay,
        average=0.98,
        seed=seed,
    )
    trained = fit(Objective(network, {TASK: TaskLoss(known, weights=weights)}), train, recipe=recipe)
    return _probabilities(trained, test)


def _probabilities(network: UPerFuse, seasons: Seasons) -> Probabilities:
    found: list[Probabilities] = []
    with torch.inference_mode():
        for batch in make_loader(seasons, batch=64):
            scores = network(batch.inputs, batch.days, batch.masks)[TASK]  # [B, K, Y, X], pixels of a tile alike
            found.append(scores.mean((2, 3)).softmax(1).numpy())
    return np.concatenate(found)
