"""What is trained: networks that differ in sensors, in what stands for an absent one, and in their losses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from uperfuse.engine.flairhub import MODALITIES, TASKS, TILE_EXTENT_M
from uperfuse.engine.plan.network import SeriesFilter
from uperfuse.trainer.training import Recipe, TrainConfig
from uperfuse.trainer.training.config import (
    EncoderConfig,
    ImbalanceConfig,
    NetworkConfig,
    SeriesConfig,
    TrainModality,
    TrainTask,
)
from uperfuse.trainer.training.objective import SECOND_LOOKS

__all__ = [
    "AERIAL",
    "ALL",
    "COVER",
    "CROPS",
    "HISTORY",
    "KINDS",
    "SERIES",
    "WORDS",
    "Kind",
    "Land",
    "Settings",
    "config_of",
]

ALL = tuple(MODALITIES)
AERIAL, HISTORY = "AERIAL_RGBI", "AERIAL-RLT_PAN"
SERIES = tuple(name for name, facts in MODALITIES.items() if facts.kind == "series")
COVER, CROPS = TASKS

WORDS: Mapping[str, str] = MappingProxyType(
    {
        "AERIAL_RGBI": "aerial",
        "AERIAL-RLT_PAN": "historical",
        "DEM_ELEV": "elevation",
        "SPOT_RGBI": "SPOT",
        "SENTINEL2_TS": "Sentinel-2",
        "SENTINEL1-ASC_TS": "Sentinel-1 asc.",
        "SENTINEL1-DESC_TS": "Sentinel-1 desc.",
    }
)
"""Modality -> what tables and plots call it."""

_FINEST_GSD_M = 0.8
"""Aerial image, elevation and historical image are taken no finer: a sixteenth of the work, for many runs."""

_DROPOUT = 0.25
"""Of seven sensors: one in eight second looks has them all."""

_AUX = 0.2

_MORE_SEED = 100
"""By what the seed of more steps differs: they are other draws."""


@dataclass(frozen=True)
class Kind:
    """One way to train.

    Attributes:
        name: of its results.
        words: what tables call it.
        modalities: sensors of the network, in FLAIR-HUB's order.
        dropout: probability with which a second look at a patch does without each sensor, for stand-ins to be learnt;
            0 learns none.
        second_looks: weight of the loss of second looks beside that of first ones.
        aux: weight of the loss of every sensor's own decoders; 0 has none.
        begins: kind with whose network of the same seed it begins, to learn `Settings.more_steps`; left out, it begins
            with its sensors' encoders.
        imbalance: what is done for rare classes.
    """

    name: str
    words: str
    modalities: tuple[str, ...]
    dropout: float = 0.0
    second_looks: float = SECOND_LOOKS
    aux: float = 0.0
    begins: str = ""
    imbalance: ImbalanceConfig = field(default_factory=ImbalanceConfig)


def _kinds() -> dict[str, Kind]:
    others = [name for name in ALL if name != AERIAL]
    kinds = [
        Kind("all", "all seven", ALL),
        Kind("longer", "all seven, more steps", ALL, begins="all"),
        Kind("dropout", "the same steps with modality dropout", ALL, dropout=_DROPOUT, second_looks=1.0, begins="all"),
        *(Kind(f"alone-{name}", WORDS[name], (name,)) for name in ALL),
        *(Kind(f"pair-{name}", f"aerial + {WORDS[name]}", (AERIAL, name)) for name in others),
        Kind("no-history", "all but historical", tuple(name for name in ALL if name != HISTORY)),
        Kind("no-series", "the four images", tuple(name for name in ALL if name not in SERIES)),
        Kind("series", "the three series", SERIES),
        Kind("weights", "class weights", ALL, imbalance=ImbalanceConfig(weights=0.5)),
        Kind("logit-adjustment", "logit adjustment", ALL, imbalance=ImbalanceConfig(logit_adjustment=1.0)),
        Kind("lovasz", "Lovász term", ALL, imbalance=ImbalanceConfig(lovasz=1.0)),
        Kind("sampling", "patch sampling", ALL, imbalance=ImbalanceConfig(sampling=0.5)),
        Kind("aux", "auxiliary losses", ALL, aux=_AUX),
    ]
    return {kind.name: kind for kind in kinds}


KINDS: Mapping[str, Kind] = MappingProxyType(_kinds())
"""Name -> kind, in the order in which they are run."""


@dataclass(frozen=True)
class Land:
    """The simulated data set.

    Attributes:
        patches: of all splits.
        seed: chance of all of it.
    """

    patches: int = 1000
    seed: int = 2026


@dataclass(frozen=True)
class Settings:
    """What all kinds have in common.

    Attributes:
        first_steps: updates of a network of each sensor alone, with whose encoder all networks of that sensor begin.
        steps: updates of the weights from there on.
        more_steps: updates of a network that begins with one that has learnt these.
        batch: patches of each.
        learning_rate: peak of the cycle; half as high in `more_steps`.
        label_stride: every how manieth pixel, along both axes, is learnt from.
        max_dates: acquisitions of a series that a draw keeps.
    """

    first_steps: int = 400
    steps: int = 300
    more_steps: int = 200
    batch: int = 4
    learning_rate: float = 1e-2
    label_stride: int = 4
    max_dates: int = 16


def config_of(
    kind: Kind, settings: Settings, *, seed: int, statistics: Mapping[str, Mapping[str, tuple[float, float]]]
) -> TrainConfig:
    """The training of one kind.

    Args:
        kind: what is trained.
        settings: of all kinds.
        seed: of weights, order and augmentation.
        statistics: series -> band -> mean and standard deviation in the patches that are learnt from.
    """
    images = EncoderConfig(dims=(16, 32, 48, 64), depths=(1, 1, 1, 1))
    series = SeriesConfig(
        encoder_widths=(16, 16, 16, 32),
        decoder_widths=(16, 16, 16, 32),
        heads=8,
        d_key=4,
        d_model=32,
        hidden_widths=(32,),
    )
    # heights in metres, where FLAIR-HUB scales them like altitudes, which leaves a roof at a hundredth
    heights = {"DEM_ELEV": {"HEIGHT": (2.0, 4.0)}}
    known = {**heights, **statistics}
    said: dict[str, dict[str, object]] = {name: {} for name in kind.modalities}
    for name, words in said.items():
        if name in known:
            words["statistics"] = dict(known[name])
        if name in SERIES:
            words["series"] = series
        if MODALITIES[name].gsd_m < _FINEST_GSD_M:
            words["gsd_m"] = _FINEST_GSD_M
            words["tile_px"] = round(TILE_EXTENT_M / _FINEST_GSD_M)
        if name == "SENTINEL2_TS":
            words["filter"] = SeriesFilter(composite="semi-monthly")
        if kind.dropout:
            words["dropout"] = kind.dropout
        if kind.aux:
            words["aux"] = kind.aux
    steps = settings.more_steps if kind.begins else settings.steps
    return TrainConfig(
        name=f"fusion-study-{kind.name}",
        modalities={name: TrainModality.model_validate(words) for name, words in said.items()},
        tasks={task: TrainTask(imbalance=kind.imbalance) for task in TASKS},
        network=NetworkConfig(encoder=images, pyramid_channels=16, segmentation_channels=16),
        second_looks=kind.second_looks,
        recipe=Recipe(
            steps=steps,
            round_steps=steps,
            batch=settings.batch,
            learning_rate=settings.learning_rate / (2 if kind.begins else 1),
            label_stride=settings.label_stride,
            average=0.99,
            seed=seed + (_MORE_SEED if kind.begins else 0),
        ),
    )
