"""From a network's spec, FLAIR-HUB's facts and a user's words to what a plan says of modalities and tasks."""

from __future__ import annotations

from ...engine.errors import CheckpointError
from ...engine.flairhub import MODALITIES, REFERENCE_DAY, TASKS, ModalityFacts
from ...engine.plan.manifest import Channel, ClassEntry, Modality, SeriesFilter, Task
from .config import ModalityConfig, TaskConfig

__all__ = ["describe_modality", "describe_task", "scaled_tile_px"]

_PUBLISHED = "FLAIR-HUB_"
_TRUE_COLOUR = "_RGB_"
_HEIGHT = "HEIGHT"


def describe_modality(
    name: str,
    *,
    channels: int,
    network: str,
    may_be_absent: bool,
    tile_px: int,
    said: ModalityConfig | None = None,
) -> Modality:
    """What the plan says of one modality.

    Args:
        name: modality.
        channels: channels that its encoder takes.
        network: name of the checkpoint; published names tell which of an image's bands they take.
        may_be_absent: the network learnt a stand-in.
        tile_px: side of a tile in this sensor's pixels.
        said: the user's words, which win.

    Raises:
        CheckpointError: neither the names nor the user tell the bands, the type or the pixel size.
    """
    said = said or ModalityConfig()
    facts = MODALITIES.get(name)
    bands = said.bands or _bands(name, channels, network, facts)
    made: tuple[tuple[str, str, str | None], ...]
    if name == "DEM_ELEV" and said.bands is None:
        made = (("DSM", "DSM", None), (_HEIGHT, "DSM", "DTM"))
        if channels != len(made):
            raise _untold(name, f"which of DSM, DTM and height its {channels} channels are", "bands")
    else:
        made = tuple((band, band, None) for band in bands)
    if len(made) != channels:
        raise CheckpointError(
            f"{name} has bands {', '.join(bands)} and its encoder takes {channels} channels; name one band per channel"
        )
    dtype = said.dtype or (facts.dtype if facts else None)
    gsd_m = said.gsd_m or (facts.gsd_m if facts else None)
    if dtype is None:
        raise _untold(name, "the type of its numbers", "dtype")
    if gsd_m is None:
        raise _untold(name, "its pixel size", "gsd_m")
    statistics = {**(facts.statistics if facts else {}), **said.statistics}
    series = name.endswith("_TS")
    return Modality(
        name=name,
        kind="series" if series else "image",
        bands=bands,
        dtype=dtype,
        channels=tuple(
            Channel(name=label, band=band, minus=minus, mean=statistics[label][0], std=statistics[label][1])
            if label in statistics
            else Channel(name=label, band=band, minus=minus)
            for label, band, minus in made
        ),
        tile_px=tile_px,
        gsd_m=gsd_m,
        may_be_absent=may_be_absent,
        reference_day=(said.reference_day or REFERENCE_DAY) if series else None,
        days_seen=said.days_seen,
        filter=_filter(name, said),
    )


def describe_task(name: str, *, classes: int, said: TaskConfig | None = None) -> Task:
    """What the plan says of one task.

    Raises:
        CheckpointError: neither FLAIR-HUB nor the user names as many classes as the decoder has.
    """
    if said is not None:
        entries = said.classes
    elif name in TASKS:
        entries = tuple(ClassEntry(name=c.name, colour=c.colour, ignored=c.ignored) for c in TASKS[name])
    else:
        raise _untold(name, "its classes", "classes", section="tasks")
    if len(entries) != classes:
        raise CheckpointError(
            f"{name} has {len(entries)} named classes and its decoder gives {classes}; "
            "name the classes under tasks in a YAML file"
        )
    return Task(name=name, classes=entries)


def scaled_tile_px(
    name: str, *, base: str, base_px: int | None, said: ModalityConfig | None, base_said: int | None
) -> int:
    """Side of a tile of `name` when a tile of `base` has `base_px` pixels a side (None: as trained)."""
    trained = _trained_px(name, said.tile_px if said else None)
    if base_px is None:
        return trained
    return max(1, round(trained * base_px / _trained_px(base, base_said)))


def _trained_px(name: str, said: int | None) -> int:
    if said is not None:
        return said
    if name not in MODALITIES:
        raise _untold(name, "the side of its tiles", "tile_px")
    return MODALITIES[name].tile_px


def _bands(name: str, channels: int, network: str, facts: ModalityFacts | None) -> tuple[str, ...]:
    if facts is None:
        raise _untold(name, "its bands", "bands")
    if name == "DEM_ELEV" or channels == len(facts.bands):
        return facts.bands
    if network.startswith(_PUBLISHED) and channels == len(facts.usual):
        return facts.bands[:channels] if _TRUE_COLOUR in network and name == "AERIAL_RGBI" else facts.usual
    raise _untold(name, f"which of {', '.join(facts.bands)} its {channels} channels are", "bands")


def _filter(name: str, said: ModalityConfig) -> SeriesFilter | None:
    if "filter" in said.model_fields_set:
        return said.filter
    return SeriesFilter() if name == "SENTINEL2_TS" else None


def _untold(name: str, what: str, key: str, *, section: str = "modalities") -> CheckpointError:
    return CheckpointError(
        f"the checkpoint does not tell {what} for {name}; "
        f"give a YAML file with --config that says {section}: {name}: {key}: ..."
    )
