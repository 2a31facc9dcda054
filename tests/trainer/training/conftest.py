"""Small trainings: a network of some thousand weights on the simulated data set."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from uperfuse.trainer.training import TrainConfig

SERIES = {"encoder_widths": [8, 8, 8, 16], "decoder_widths": [8, 8, 8, 16], "heads": 4, "d_key": 2, "d_model": 16}
IMAGES = {
    "AERIAL_RGBI": {"bands": ["R", "G", "B", "NIR"]},
    "DEM_ELEV": {"statistics": {"HEIGHT": [2.0, 4.0]}, "dropout": 0.3},
}


def merged(base: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    """Nested settings with others on top."""
    both = dict(base)
    for key, value in more.items():
        both[key] = merged(both[key], value) if isinstance(value, dict) and isinstance(both.get(key), dict) else value
    return both


@pytest.fixture(scope="session")
def config_of(data_set) -> Callable[..., TrainConfig]:
    """A configuration for quarters of patches, with settings on top."""
    base = {
        "name": "tiny",
        "modalities": IMAGES,
        "tasks": {"AERIAL_LABEL-COSIA": {}},
        "network": {
            "encoder": {"dims": [8, 8, 8, 8], "depths": [1, 1, 1, 1]},
            "pyramid_channels": 8,
            "segmentation_channels": 8,
        },
        "data": {
            "root": str(data_set.root),
            "check": False,
            "augmentation": {"quarters": True, "max_dates": 3},
            "hold_out": 0.34,
        },
        "recipe": {"steps": 4, "round_steps": 2, "batch": 4, "learning_rate": 3e-3, "label_stride": 8, "average": 0.5},
    }

    def made(**more: Any) -> TrainConfig:
        return TrainConfig.model_validate(merged(base, more))

    return made


@pytest.fixture(scope="session")
def series_settings() -> dict[str, Any]:
    """The encoder of a small time series."""
    return SERIES
