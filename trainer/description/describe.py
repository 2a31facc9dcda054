"""From a network's spec, FLAIR-HUB's facts and a user's words to what a plan says of modalities and tasks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from pydantic import ValidationError

from ...engine.errors import CheckpointError
from ...engine.flairhub import MODALITIES, REFERENCE_DAY, TASKS, ModalityFacts
from ...engine.plan.network import ClassEntry, Modality, SeriesFilter, Task
from ..network import NetworkSpec
from .config import ExportConfig, ModalityConfig, TaskConfig
from .sizes import label_side, uneven_tiles

__all__ = ["DescribedNetwork", "describe_modality", "describe_network", "describe_task"]

_Described = TypeVar("_Described", Modality, Task)
_PUBLISHED = "FLAIR-HUB_"
_TRUE_COLOUR = "_RGB_"
_HEIGHT = "HEIGHT"
_LONGEST_NAME = 200


@dataclass(frozen=True)
class DescribedNetwork:
    """What a plan says of a network beside its graphs."""

    modalities: tuple[Modality, ...]
    tasks: tuple[Task, ...]
    label_px: int


def describe_network(
    spec: NetworkSpec,
    *,
    name: str,
    said: ExportConfig,
    tiles_px: Mapping[str, int],
    say: Callable[[str], None] = lambda _line: None,
) -> DescribedNetwork:
    """What the plan says of all modalities and tasks.

    Args:
        spec: the network.
        name: of the checkpoint.
        said: the user's words.
        tiles_px: modality -> side of a tile in its own pixels.
        say: where lines go that the user should read.

    Raises:
        CheckpointError: names, shapes and the user's words do not tell all of it, or contradict each other.
    """
    if not (1 <= len(name) <= _LONGEST_NAME and name.isprintable()):
        raise CheckpointError(f"the name {name!r} does not fit a plan; use 1 to {_LONGEST_NAME} printable characters")
    for what, words, known in (
        ("modalities", said.modalities, spec.modalities),
        ("tasks", said.tasks, tuple(task.name for task in spec.tasks)),
    ):
        strangers = sorted(set(words) - set(known))
        if strangers:
            raise CheckpointError(
                f"{what} in the YAML file hold {', '.join(strangers)}, the checkpoint has {', '.join(known)}; "
                "correct the names"
            )
    channels = {image.name: image.channels for image in spec.images}
    channels |= {series.name: series.channels for series in spec.series}
    modalities = tuple(
        describe_modality(
            modality,
            channels=channels[modality],
            network=name,
            may_be_absent=modality in spec.absent,
            tile_px=tiles_px[modality],
            said=said.modalities.get(modality),
        )
        for modality in spec.modalities
    )
    tasks = tuple(describe_task(t.name, classes=t.classes, said=said.tasks.get(t.name)) for t in spec.tasks)
    for line in uneven_tiles(spec, tiles_px):
        say(line)
    for modality in modalities:
        raw = [channel.name for channel in modality.channels if (channel.mean, channel.std) == (0.0, 1.0)]
        if raw and modality.kind == "image":
            say(f"{modality.name}: {', '.join(raw)} without statistics, entering as raw numbers")
    return DescribedNetwork(modalities, tasks, label_side(spec.modalities[0], tiles_px[spec.modalities[0]]))


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
        CheckpointError: neither the names nor the user tell the bands, the type or the pixel size, or what the user
            says does not make a modality.
    """
    said = said or ModalityConfig()
    facts = MODALITIES.get(name)
    bands = said.bands or _bands(name, channels, network, facts)
    made: tuple[tuple[str, str, str | None], ...]
    if name == "DEM_ELEV" and bands == MODALITIES[name].bands:
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
    labels = [label for label, _, _ in made]
    stray = sorted(set(said.statistics) - set(labels))
    if stray:
        raise CheckpointError(
            f"statistics of {name} name {', '.join(stray)}, its channels are {', '.join(labels)}; correct the names"
        )
    statistics = {**(facts.statistics if facts else {}), **said.statistics}
    series = name.endswith("_TS")
    return _valid(
        Modality,
        name=name,
        kind="series" if series else "image",
        bands=bands,
        dtype=dtype,
        channels=[
            {"name": label, "band": band, "minus": minus}
            | (dict(zip(("mean", "std"), statistics[label], strict=True)) if label in statistics else {})
            for label, band, minus in made
        ],
        tile_px=tile_px,
        gsd_m=gsd_m,
        may_be_absent=may_be_absent,
        reference_day=(said.reference_day or REFERENCE_DAY) if series else said.reference_day,
        days_seen=said.days_seen,
        filter=_filter(name, said),
    )


def describe_task(name: str, *, classes: int, said: TaskConfig | None = None) -> Task:
    """What the plan says of one task.

    Raises:
        CheckpointError: neither FLAIR-HUB nor the user names as many classes as the decoder has.
    """
    if said is not None and said.classes:
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
    return _valid(Task, name=name, classes=entries)


def _bands(name: str, channels: int, network: str, facts: ModalityFacts | None) -> tuple[str, ...]:
    if facts is None:
        raise _untold(name, "its bands", "bands")
    if name == "DEM_ELEV" or channels == len(facts.bands):
        return facts.bands
    if network.startswith(_PUBLISHED) and channels == len(facts.usual):
        return facts.bands[:channels] if _TRUE_COLOUR in network and name == "AERIAL_RGBI" else facts.usual
    raise _untold(name, f"which of {', '.join(facts.bands)} its {channels} channels are", "bands")


def _valid(made: type[_Described], /, *, name: str, **fields: object) -> _Described:
    try:
        return made.model_validate({"name": name, **fields})
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}".removeprefix(": ") for e in error.errors())
        raise CheckpointError(f"what is said of {name} does not fit a plan: {faults}; correct the YAML file") from error


def _filter(name: str, said: ModalityConfig) -> SeriesFilter | None:
    if "filter" in said.model_fields_set:
        return said.filter
    return SeriesFilter() if name == "SENTINEL2_TS" else None


def _untold(name: str, what: str, key: str, *, section: str = "modalities") -> CheckpointError:
    return CheckpointError(
        f"the checkpoint does not tell {what} for {name}; "
        f"give a YAML file with --config that says {section}: {name}: {key}: ..."
    )
