"""What makes a network: modalities, encoders, tasks and decoder, all of it told by a checkpoint's shapes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from ...engine.errors import CheckpointError
from ...engine.flairhub import MODALITIES

__all__ = ["BACKBONES", "LEVELS", "BackboneSpec", "Decoder", "ImageSpec", "NetworkSpec", "SeriesSpec", "TaskSpec"]

CONV_GROUPS = 4
"""Groups of channels that the convolutions of a time series are normalised in."""

LEVELS = 4
"""Maps of a pyramid, at 1/4, 1/8, 1/16 and 1/32 of the tile."""

Decoder = Literal["upernet", "unet"]


@dataclass(frozen=True)
class BackboneSpec:
    """An image backbone of timm, by its numbers.

    Attributes:
        family: which of timm's architectures.
        dims: channels of the four levels; those of Swin double from one to the next.
        depths: blocks of the four stages.
        heads: attention heads of the four stages; empty for ConvNeXt.
        windows: attention windows of the four stages, in pixels of the stage; empty for ConvNeXt.
    """

    family: Literal["swin", "convnextv2"]
    dims: tuple[int, ...]
    depths: tuple[int, ...]
    heads: tuple[int, ...] = ()
    windows: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        swin = (self.heads, self.windows) if self.family == "swin" else ()
        if any(len(numbers) != LEVELS for numbers in (self.dims, self.depths, *swin)):
            raise CheckpointError(f"{self} does not have numbers for {LEVELS} stages; give {LEVELS} of each")

        if self.family == "swin" and self.dims != tuple(self.dims[0] * factor for factor in (1, 2, 4, 8)):
            raise CheckpointError(f"a Swin backbone has channels {self.dims}; they must double from level to level")

    def fitted(self, tile_px: int) -> BackboneSpec:
        """Shrink windows to their stage of a square tile, as training at that tile does."""
        sides = stage_sides(tile_px)
        windows = tuple(min(window, side) for window, side in zip(self.windows, sides, strict=False))
        return BackboneSpec(self.family, self.dims, self.depths, self.heads, windows)

    def level_sides(self, tile_px: int) -> tuple[int, ...]:
        """Sides of the four maps of a tile side: where it does not divide, Swin pads and ConvNeXt drops the rest."""
        if self.family == "swin":
            return stage_sides(tile_px)
        return tuple(tile_px // stride for stride in (4, 8, 16, 32))


def stage_sides(tile_px: int) -> tuple[int, ...]:
    """Sides of the four levels of a tile side, in pixels of the level, rounded up."""
    side = -(-tile_px // 4)
    sides = [side]
    for _ in range(LEVELS - 1):
        side = (side + 1) // 2
        sides.append(side)
    return tuple(sides)


def _swin(dim: int, depth: int, heads: int, window: int) -> BackboneSpec:
    doubled = (1, 2, 4, 8)
    dims = tuple(dim * factor for factor in doubled)
    return BackboneSpec("swin", dims, (2, 2, depth, 2), tuple(heads * factor for factor in doubled), (window,) * 4)


BACKBONES: Mapping[str, BackboneSpec] = MappingProxyType(
    {
        "swin_tiny_patch4_window7_224": _swin(96, 6, 3, 7),
        "swin_small_patch4_window7_224": _swin(96, 18, 3, 7),
        "swin_base_patch4_window7_224": _swin(128, 18, 4, 7),
        "swin_base_patch4_window12_384": _swin(128, 18, 4, 12),
        "swin_large_patch4_window7_224": _swin(192, 18, 6, 7),
        "swin_large_patch4_window12_384": _swin(192, 18, 6, 12),
        "convnextv2_atto": BackboneSpec("convnextv2", (40, 80, 160, 320), (2, 2, 6, 2)),
        "convnextv2_femto": BackboneSpec("convnextv2", (48, 96, 192, 384), (2, 2, 6, 2)),
        "convnextv2_pico": BackboneSpec("convnextv2", (64, 128, 256, 512), (2, 2, 6, 2)),
        "convnextv2_nano": BackboneSpec("convnextv2", (80, 160, 320, 640), (2, 2, 8, 2)),
        "convnextv2_tiny": BackboneSpec("convnextv2", (96, 192, 384, 768), (3, 3, 9, 3)),
        "convnextv2_base": BackboneSpec("convnextv2", (128, 256, 512, 1024), (3, 3, 27, 3)),
    }
)
"""The reference's backbones, and smaller ones, by timm's names; windows not yet fitted to a tile."""


@dataclass(frozen=True)
class ImageSpec:
    """One image modality: its name, channels, tile side in pixels, and backbone."""

    name: str
    channels: int
    tile_px: int
    backbone: BackboneSpec


@dataclass(frozen=True)
class SeriesSpec:
    """One time series and the numbers of its U-TAE.

    Attributes:
        name: of the modality.
        channels: of one acquisition.
        encoder_widths: channels of the spatial encoder, finest first.
        decoder_widths: channels of the spatial decoder, finest first; the last equals the encoder's last.
        heads: of the temporal attention; every encoder width is a multiple.
        d_key: width of a key.
        d_model: width of the embedding.
        out_widths: channels of the convolutions that end in class scores; the last is the sum of all classes.
    """

    name: str
    channels: int
    encoder_widths: tuple[int, ...]
    decoder_widths: tuple[int, ...]
    heads: int
    d_key: int
    d_model: int
    out_widths: tuple[int, ...]

    def __post_init__(self) -> None:
        widths = (*self.encoder_widths, self.d_model)
        if any(width % self.heads for width in widths):
            raise CheckpointError(f"{self.name}: widths {widths} are not multiples of its {self.heads} attention heads")
        if any(width % CONV_GROUPS for width in self.encoder_widths):
            raise CheckpointError(
                f"{self.name}: encoder widths {self.encoder_widths} are not multiples of {CONV_GROUPS}, the number of "
                "groups that are normalised; choose others"
            )
        down, up = self.encoder_widths, self.decoder_widths
        if len(down) != len(up) or down[-1] != up[-1]:
            raise CheckpointError(
                f"{self.name}: decoder widths {up} do not mirror encoder widths {down}; "
                "give as many, with the same last one"
            )

    @property
    def map_channels(self) -> tuple[int, ...]:
        """Channels of its maps, deepest first."""
        return self.decoder_widths[::-1]


@dataclass(frozen=True)
class TaskSpec:
    """One map to predict: the name of its label and the number of classes."""

    name: str
    classes: int


@dataclass(frozen=True)
class NetworkSpec:
    """Everything that decides names and shapes of a network's parameters.

    Modalities stand in FLAIR-HUB's order; the constructor refuses any other.

    Attributes:
        images: image modalities; the first one present gives the grid.
        series: time series.
        tasks: maps to predict, one decoder each.
        decoder: kind of the decoders of networks with images.
        pyramid_channels: of UPerNet's maps.
        segmentation_channels: of UPerNet's last map.
        unet_channels: of U-Net's five blocks.
        aux: modalities with auxiliary decoders of their own, used in training.
        absent: modalities with a learned stand-in.
        shared: images whose encoder is the first image's, but for a stem of their own, since they have other bands.
    """

    images: tuple[ImageSpec, ...]
    series: tuple[SeriesSpec, ...]
    tasks: tuple[TaskSpec, ...]
    decoder: Decoder = "upernet"
    pyramid_channels: int = 256
    segmentation_channels: int = 64
    unet_channels: tuple[int, ...] = (256, 128, 64, 32, 16)
    aux: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()
    shared: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        known = list(MODALITIES)
        unknown = [name for name in self.modalities if name not in known]
        if unknown:
            raise CheckpointError(f"modalities {unknown} are unknown; use some of {known}")
        order = [known.index(name) for name in self.modalities]
        if not order or order != sorted(set(order)):
            raise CheckpointError(
                f"modalities are {list(self.modalities)}; give one or more, each once, ordered as {known}"
            )
        if not self.tasks:
            raise CheckpointError("the network has no task; give at least one")
        if self.images and any(len(each.decoder_widths) != LEVELS for each in self.series):
            raise CheckpointError(f"beside images a series needs {LEVELS} maps; give {LEVELS} widths")
        for each in self.series:
            if not self.images and each.out_widths[-1] != self.classes:
                raise CheckpointError(
                    f"{each.name} ends in {each.out_widths[-1]} scores, expected {self.classes} classes"
                )
        for kind, names in (("aux", self.aux), ("absent", self.absent)):
            strangers = [name for name in names if name not in self.modalities]
            if strangers:
                raise CheckpointError(f"{kind} names {strangers}; use some of {list(self.modalities)}")
        if self.absent and len(self.modalities) < 2:
            raise CheckpointError(f"the only modality {self.absent[0]} cannot be absent; name none")
        self._check_shared()

    def _check_shared(self) -> None:
        others = [image.name for image in self.images[1:]]
        strangers = [name for name in self.shared if name not in others]
        if strangers:
            raise CheckpointError(
                f"shared names {strangers}; an encoder is the first image's, so use some of the other images {others}"
            )
        if not self.shared:
            return
        first = self.images[0]
        if first.backbone.family == "swin":
            raise CheckpointError(
                f"{list(self.shared)} cannot share {first.name}'s Swin encoder, whose windows and tables of positions "
                "follow one sensor's tile; use a ConvNeXt V2 encoder"
            )
        for image in self.images[1:]:
            if image.name in self.shared and image.backbone != first.backbone:
                raise CheckpointError(
                    f"{image.name} cannot share {first.name}'s encoder {first.backbone} with {image.backbone} of its "
                    "own; give both the same one"
                )

    @property
    def modalities(self) -> tuple[str, ...]:
        """All modalities in order."""
        return *(each.name for each in self.images), *(each.name for each in self.series)

    @property
    def classes(self) -> int:
        """Classes of all tasks together."""
        return sum(task.classes for task in self.tasks)

    @property
    def fused(self) -> bool:
        """Whether maps of several modalities are fused by a convolution."""
        return bool(self.images) and len(self.modalities) > 1

    def image(self, name: str) -> ImageSpec | None:
        """The image modality of that name, if it is one."""
        return next((each for each in self.images if each.name == name), None)

    def level_channels(self, modality: str) -> tuple[int, ...]:
        """Channels of the maps of a modality before fusion, as many as levels; networks of series alone have one."""
        if not self.images:
            return (self.classes,)
        image = self.image(modality)
        if image is not None:
            return image.backbone.dims
        return next(each.map_channels for each in self.series if each.name == modality)

    @classmethod
    def flairhub(
        cls,
        *,
        modalities: Mapping[str, tuple[int, int]],
        tasks: Mapping[str, int],
        encoder: str | BackboneSpec = "swin_tiny_patch4_window7_224",
        decoder: Decoder = "upernet",
        aux: Iterable[str] = (),
        absent: Iterable[str] = (),
        shared: Iterable[str] = (),
    ) -> NetworkSpec:
        """Describe the network that the reference builds.

        Args:
            modalities: name -> (channels, tile side in pixels), in any order.
            tasks: label name -> number of classes.
            encoder: backbone of every image modality, by timm's name or by numbers.
            decoder: kind of the decoders.
            aux: modalities with auxiliary decoders.
            absent: modalities with a learned stand-in.
            shared: images that share the first one's encoder.

        Raises:
            CheckpointError: for a name that FLAIR-HUB does not know.

        Example:
            >>> spec = NetworkSpec.flairhub(
            ...     modalities={"SENTINEL2_TS": (10, 10), "AERIAL_RGBI": (3, 512)}, tasks={"AERIAL_LABEL-COSIA": 19}
            ... )
            >>> spec.modalities
            ('AERIAL_RGBI', 'SENTINEL2_TS')
            >>> spec.series[0].decoder_widths
            (64, 64, 128, 128)
        """
        if isinstance(encoder, str):
            if encoder not in BACKBONES:
                raise CheckpointError(f"encoder {encoder} is unknown; use one of {list(BACKBONES)}")
            encoder = BACKBONES[encoder]
        unknown = [name for name in modalities if name not in MODALITIES]
        if unknown:
            raise CheckpointError(f"modalities {unknown} are unknown; use some of {list(MODALITIES)}")
        ordered = [name for name in MODALITIES if name in modalities]
        images = tuple(
            ImageSpec(name, modalities[name][0], modalities[name][1], encoder.fitted(modalities[name][1]))
            for name in ordered
            if MODALITIES[name].kind == "image"
        )
        classes = sum(tasks.values())
        series = tuple(
            cls.series_of_reference(name, modalities[name][0], classes=classes, beside_images=bool(images))
            for name in ordered
            if MODALITIES[name].kind == "series"
        )
        return cls(
            images=images,
            series=series,
            tasks=tuple(TaskSpec(name, count) for name, count in tasks.items()),
            decoder=decoder,
            aux=tuple(aux),
            absent=tuple(absent),
            shared=tuple(shared),
        )

    @staticmethod
    def series_of_reference(name: str, channels: int, *, classes: int, beside_images: bool) -> SeriesSpec:
        """The encoder that the reference gives a time series.

        Args:
            name: of the modality.
            channels: of one acquisition.
            classes: of all tasks together.
            beside_images: whether the network has images, too.
        """
        widths = ((64, 64, 128, 128),) * 2 if beside_images else ((64, 64, 64, 128), (32, 32, 64, 128))
        out = (32, 19) if classes == 19 else (32, 19, classes)
        return SeriesSpec(name, channels, *widths, heads=16, d_key=4, d_model=256, out_widths=out)
