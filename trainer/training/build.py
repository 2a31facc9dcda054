"""From a training's configuration to the network it describes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ...engine.errors import CheckpointError
from ...engine.flairhub import MODALITIES
from ...engine.plan.network import Modality, Task
from ..checkpoint import LoadedCheckpoint
from ..data import LabelRule
from ..description import (
    DescribedNetwork,
    ExportConfig,
    ModalityConfig,
    TaskConfig,
    describe_network,
    label_side,
    tile_sides,
)
from ..network import ImageSpec, NetworkSpec, SeriesSpec, TaskSpec
from .config import SHARED, NetworkConfig, TrainConfig, TrainModality, encoder_of, label_rule

__all__ = ["Built", "build"]


@dataclass(frozen=True)
class Built:
    """A network that is to be trained, and what it takes and gives.

    Attributes:
        spec: of the network.
        said: what its checkpoint will say of itself.
        modalities: what it takes, as its plan will say it.
        tasks: what it gives, likewise.
        labels: task -> its labels in a data set.
        labels_per_base: pixels of a label to a pixel of its first modality.
    """

    spec: NetworkSpec
    said: ExportConfig
    modalities: dict[str, Modality]
    tasks: tuple[Task, ...]
    labels: dict[str, LabelRule]
    labels_per_base: float


def build(config: TrainConfig, *, start: LoadedCheckpoint | None = None) -> Built:
    """Say what network a configuration means.

    Args:
        config: of the training.
        start: the checkpoint that it begins with; what the configuration does not say is taken from it.

    Raises:
        CheckpointError: modalities, tasks, encoders or bands that do not make a network.
    """
    old = None if start is None else start.network.spec
    known = None
    if start is not None and config.start.checkpoint is not None:
        known = start.describe(config.start.checkpoint.stem)
    modalities = config.modalities or dict.fromkeys(old.modalities if old else (), TrainModality())
    unknown = [name for name in modalities if name not in MODALITIES]
    if unknown:
        raise CheckpointError(f"modalities {unknown} are unknown; use some of {list(MODALITIES)}")
    ordered = {name: modalities[name] for name in MODALITIES if name in modalities}
    said = ExportConfig(
        name=config.name,
        modalities={name: _modality_words(name, each, known) for name, each in ordered.items()},
        tasks=_task_words(config, start),
    )
    names = [*config.tasks] or [task.name for task in (old.tasks if old else ())]
    labels = {name: label_rule(name, said.tasks.get(name)) for name in names}
    tasks = tuple(TaskSpec(name, len(rule.classes)) for name, rule in labels.items())
    classes = sum(task.classes for task in tasks)
    beside_images = any(MODALITIES[name].kind == "image" for name in ordered)
    parts = config.network or _parts_of(old)
    kept = () if old is None else old.absent
    images, shared = _images(ordered, said, parts, old)
    spec = NetworkSpec(
        images=images,
        series=tuple(
            _series(name, each, said.modalities[name], classes, old, beside_images=beside_images)
            for name, each in ordered.items()
            if MODALITIES[name].kind == "series"
        ),
        tasks=tasks,
        decoder=parts.decoder,
        pyramid_channels=parts.pyramid_channels,
        segmentation_channels=parts.segmentation_channels,
        unet_channels=parts.unet_channels,
        aux=tuple(name for name, each in ordered.items() if each.aux),
        absent=tuple(name for name, each in ordered.items() if each.dropout is not None or name in kept),
        shared=shared,
    )
    tiles_px = tile_sides(spec, said=said.modalities, tile_px=None)
    described = describe_network(spec, name=config.name, said=said, tiles_px=tiles_px)
    base = spec.modalities[0]
    return Built(
        spec=spec,
        said=said,
        modalities={modality.name: modality for modality in described.modalities},
        tasks=described.tasks,
        labels=labels,
        labels_per_base=label_side(base, tiles_px[base]) / tiles_px[base],
    )


def _modality_words(name: str, given: TrainModality, known: DescribedNetwork | None) -> ModalityConfig:
    """What the checkpoint will say of a modality: what the user says, or the network that is begun with, or usual."""
    old = next((each for each in known.modalities if each.name == name), None) if known else None
    facts = MODALITIES[name]
    if old is not None:
        said: dict[str, object] = {
            "bands": old.bands,
            "dtype": old.dtype,
            "statistics": {
                channel.name: (channel.mean, channel.std)
                for channel in old.channels
                if (channel.mean, channel.std) != (0.0, 1.0)
            },
            "gsd_m": old.gsd_m,
            "tile_px": old.tile_px,
        }
        if old.kind == "series":
            said |= {"reference_day": old.reference_day, "days_seen": old.days_seen, "filter": old.filter}
    else:
        said = {"bands": facts.bands if name == "DEM_ELEV" else facts.usual, "tile_px": facts.tile_px}
    words = given.said()
    return ModalityConfig.model_validate(said | {field: getattr(words, field) for field in words.model_fields_set})


def _task_words(config: TrainConfig, start: LoadedCheckpoint | None) -> dict[str, TaskConfig]:
    own = {name: words for name, task in config.tasks.items() if (words := task.said()) is not None}
    if start is None:
        return own
    old = {name: words for name, words in start.said.tasks.items() if not config.tasks or name in config.tasks}
    return old | own


def _parts_of(old: NetworkSpec | None) -> NetworkConfig:
    if old is None:
        return NetworkConfig()
    return NetworkConfig(
        decoder=old.decoder,
        pyramid_channels=old.pyramid_channels,
        segmentation_channels=old.segmentation_channels,
        unet_channels=old.unet_channels,
    )


def _images(
    modalities: Mapping[str, TrainModality], said: ExportConfig, parts: NetworkConfig, old: NetworkSpec | None
) -> tuple[tuple[ImageSpec, ...], tuple[str, ...]]:
    """The images in order, and those of them that share the first one's encoder."""
    images: list[ImageSpec] = []
    shared: list[str] = []
    for name, given in modalities.items():
        if MODALITIES[name].kind != "image":
            continue
        words = said.modalities[name]
        tile_px = words.tile_px or MODALITIES[name].tile_px
        known = old.image(name) if old is not None else None
        if given.encoder == SHARED and not images:
            raise CheckpointError(
                f"{name} is the first image, and others share its encoder; name an encoder for it, or leave it out"
            )
        # where the image that lent its encoder is left out, what it lent is the next one's own
        kept = given.encoder is None and old is not None and name in old.shared and bool(images)
        if given.encoder == SHARED or kept:
            shared.append(name)
            backbone = images[0].backbone
        elif known is not None and given.encoder is None:
            backbone = known.backbone
        else:
            backbone = encoder_of(given.encoder or parts.encoder).fitted(tile_px)
        images.append(ImageSpec(name, len(words.bands or ()), tile_px, backbone))
    return tuple(images), tuple(shared)


def _series(
    name: str,
    given: TrainModality,
    words: ModalityConfig,
    classes: int,
    old: NetworkSpec | None,
    *,
    beside_images: bool,
) -> SeriesSpec:
    channels = len(words.bands or ())
    known = next((each for each in old.series if each.name == name), None) if old is not None else None
    if given.series is not None:
        own = given.series
        out = (*own.hidden_widths, classes)
        return SeriesSpec(
            name, channels, own.encoder_widths, own.decoder_widths, own.heads, own.d_key, own.d_model, out
        )
    if known is not None:
        out = (*known.out_widths[:-1], classes)
        return SeriesSpec(
            name, channels, known.encoder_widths, known.decoder_widths, known.heads, known.d_key, known.d_model, out
        )
    return NetworkSpec.series_of_reference(name, channels, classes=classes, beside_images=beside_images)
