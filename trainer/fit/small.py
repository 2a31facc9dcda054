"""The small network that ships with the project: all seven sensors and both tasks in 2 million weights."""

from __future__ import annotations

from ...engine.flairhub import MODALITIES, TASKS
from ...engine.plan.network import Modality
from ..description import ExportConfig, describe_modality
from ..network import BackboneSpec, ImageSpec, NetworkSpec, SeriesSpec, TaskSpec

__all__ = ["CONFIG", "NAME", "small_modalities", "small_network"]

NAME = "uperfuse-small"

CONFIG = ExportConfig.model_validate({"modalities": {"DEM_ELEV": {"statistics": {"HEIGHT": [2.0, 4.0]}}}})
"""FLAIR-HUB scales heights like altitudes, which leaves a roof at a hundredth; this network sees them in metres."""

_MAIN = BackboneSpec("convnextv2", (24, 48, 96, 144), (2, 2, 4, 2))
_SIDE = BackboneSpec("convnextv2", (16, 32, 48, 64), (1, 1, 2, 1))
_WIDTHS = (32, 32, 32, 64)
_MAIN_SENSOR = "AERIAL_RGBI"


def small_network() -> NetworkSpec:
    """Spec of the small network; every sensor but the aerial image may be absent."""
    classes = sum(map(len, TASKS.values()))
    channels = {name: len(facts.bands) for name, facts in MODALITIES.items()}
    return NetworkSpec(
        images=tuple(
            ImageSpec(name, channels[name], facts.tile_px, _MAIN if name == _MAIN_SENSOR else _SIDE)
            for name, facts in MODALITIES.items()
            if facts.kind == "image"
        ),
        series=tuple(
            SeriesSpec(name, channels[name], _WIDTHS, _WIDTHS, heads=16, d_key=4, d_model=64, out_widths=(16, classes))
            for name, facts in MODALITIES.items()
            if facts.kind == "series"
        ),
        tasks=tuple(TaskSpec(name, len(entries)) for name, entries in TASKS.items()),
        pyramid_channels=48,
        segmentation_channels=32,
        absent=tuple(name for name in MODALITIES if name != _MAIN_SENSOR),
    )


def small_modalities() -> dict[str, Modality]:
    """What the small network takes, as its plan says it."""
    spec = small_network()
    channels = {image.name: image.channels for image in spec.images}
    channels |= {series.name: series.channels for series in spec.series}
    return {
        name: describe_modality(
            name,
            channels=channels[name],
            network=NAME,
            may_be_absent=name in spec.absent,
            tile_px=MODALITIES[name].tile_px,
            said=CONFIG.modalities.get(name),
        )
        for name in spec.modalities
    }
