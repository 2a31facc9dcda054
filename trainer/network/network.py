"""The network: one encoder per sensor, fusion of their pyramids, one decoder per task."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...engine.errors import TileError
from ...kernels.pyramid_fusion import project_and_fuse, pyramid_fusion
from .decoders import SegmentationDecoder
from .enlarging import enlarged
from .images import ImageEncoder, ImageStem
from .presence import looked_twice, rows_to_encode, spread, substituted
from .series import SeriesEncoder
from .spec import NetworkSpec

__all__ = ["UPerFuse"]

Maps = list[Tensor]


class UPerFuse(nn.Module):
    """FLAIR-HUB's network, with the parameter names of its published checkpoints (less their prefix `model.`).

    The fusion `conv1x1(concat(resize(x_i)))` is computed as `sum_i resize(W_i x_i) + b`: every sensor is projected at
    its own resolution. So an encoder and its share of the fusion can be run, cached or replaced on their own.

    Args:
        spec: everything that decides the parameters.
    """

    def __init__(self, spec: NetworkSpec) -> None:
        super().__init__()
        self.spec = spec
        self.encoders = nn.ModuleDict()
        for image in spec.images:
            self.encoders[image.name] = ImageStem(image) if image.name in spec.shared else ImageEncoder(image)
        for series in spec.series:
            self.encoders[series.name] = SeriesEncoder(series)
        self.fusion_handler = nn.ModuleDict({"conv_f": _fusion(spec)})
        dims = spec.images[0].backbone.dims if spec.images else ()
        self.main_decoders = nn.ModuleDict(
            {
                task.name: SegmentationDecoder(spec, dims=dims, classes=task.classes)
                if spec.images
                else nn.Conv2d(spec.classes, task.classes, 1)
                for task in spec.tasks
            }
        )
        self.aux_decoders = nn.ModuleDict()
        for task in spec.tasks:
            for name in spec.aux:
                own = spec.image(name)
                self.aux_decoders[f"{name}__{task.name}"] = (
                    SegmentationDecoder(spec, dims=own.backbone.dims, classes=task.classes)
                    if own
                    else nn.Conv2d(spec.classes, task.classes, 1)
                )
        self.absent = nn.ModuleDict(
            {name: nn.ParameterList(map(torch.zeros, spec.level_channels(name))) for name in spec.absent}
        )

    @property
    def head_scale(self) -> int:
        """Factor by which `decode`'s logits are enlarged with `align_corners=True`: 4, or 1 where they are not."""
        return 4 if self.spec.images and self.spec.decoder == "upernet" else 1

    def set_tile(self, modality: str, shape_yx: tuple[int, int]) -> None:
        """Prepare an image modality for tiles of another size; needed before an export only.

        Args:
            modality: name of an image modality.
            shape_yx: rows and columns of the tiles to come.
        """
        if modality not in self.spec.shared:
            cast(ImageEncoder, self.encoders[modality]).set_tile(shape_yx)

    def encode_image(self, modality: str, pixels: Tensor) -> Maps:
        """Run an image modality's backbone, or its stem and behind it the stages that it shares with the first image.

        Args:
            modality: name of an image modality.
            pixels: [B, C, Y, X], normalised.

        Returns:
            Four maps, finest first: [B, C_l, Y / 4, X / 4] to [B, C_l, Y / 32, X / 32].
        """
        encoded = self.encoders[modality](pixels)
        if modality not in self.spec.shared:
            return cast(Maps, encoded)
        return cast(ImageEncoder, self.encoders[self.spec.images[0].name]).stages(encoded)

    def encode_series(self, modality: str, pixels: Tensor, days: Tensor, mask: Tensor) -> Maps:
        """Run a series' U-TAE. Dates outside the mask change nothing; with none inside it the result is finite.

        Args:
            modality: name of a series.
            pixels: [B, T, C, Y, X] raw numbers.
            days: [B, T] days from the reference date.
            mask: [B, T] true or 1 for a real date, false or 0 for padding.

        Returns:
            Beside images four maps [B, C_l, Y, X], deepest first. Without any image one map of class scores.
        """
        encoder = cast(SeriesEncoder, self.encoders[modality])
        maps = encoder(pixels, days, mask)
        return cast(Maps, maps) if self.spec.images else [encoder.classify(maps)]

    def project(self, modality: str, maps: Sequence[Tensor]) -> Maps:
        """Multiply maps by this modality's slice of the fusion weights, at their own resolution.

        The bias comes with the first image modality. Maps of a network without fusion are returned as they are.
        """
        if not self.spec.fused:
            return list(maps)
        slices = self.fusion_slices(modality)
        return [F.conv2d(each, weight, bias) for each, (weight, bias) in zip(maps, slices, strict=True)]

    def fusion_slices(self, modality: str) -> list[tuple[Tensor, Tensor | None]]:
        """Cut out this modality's fusion weights, per level [C_out, C_l, 1, 1], and the bias with the first image."""
        before = self.spec.modalities[: self.spec.modalities.index(modality)]
        first = modality == self.spec.images[0].name
        slices = []
        for level, conv in enumerate(self._convolutions()):
            start = sum(self.spec.level_channels(name)[level] for name in before)
            weight = conv.weight[:, start : start + self.spec.level_channels(modality)[level]]
            slices.append((weight, conv.bias if first else None))
        return slices

    def fuse(
        self, projected: Mapping[str, Sequence[Tensor]], *, sizes: Sequence[tuple[int, int]] | None = None
    ) -> Maps:
        """Resize projected maps to the first image modality's levels and add them up; series alone are averaged.

        Args:
            projected: modality -> maps from `project`.
            sizes: rows and columns of the levels; those of the first modality given where left out.

        Returns:
            The pyramid for `decode`, finest map first.
        """
        ordered = [projected[name] for name in self.spec.modalities if name in projected]
        if sizes is None:
            sizes = [(each.shape[-2], each.shape[-1]) for each in ordered[0]]
        fused = [
            pyramid_fusion(level, size=size) for level, size in zip(zip(*ordered, strict=True), sizes, strict=True)
        ]
        return fused if self.spec.images else [each / len(ordered) for each in fused]

    def decode(self, task: str, pyramid: Sequence[Tensor]) -> Tensor:
        """Decode a fused pyramid to a task's logits.

        Returns:
            [B, K, Y / 4, X / 4] of the first image modality's tile; U-Net: [B, K, Y, X]; series alone: at their size.
        """
        decoder = self.main_decoders[task]
        if self.spec.images:
            return cast(Tensor, decoder(pyramid))
        # with a single task the reference keeps this convolution in its files, and skips it
        return cast(Tensor, decoder(pyramid[0])) if len(self.spec.tasks) > 1 else pyramid[0]

    def enlarge(self, logits: Tensor, *, output_px: tuple[int, int] | None = None, stride: int = 1) -> Tensor:
        """Bring `decode`'s logits to full size: first by `head_scale` with aligned corners, then to `output_px`.

        Args:
            logits: [B, K, Y, X].
            output_px: rows and columns of the full size; `head_scale` times those of the logits where left out.
            stride: every how manieth pixel along both axes is wanted, from the one in the middle of the first stride
                on; the others are not computed.
        """
        return enlarged(logits, scale=self.head_scale, output_px=output_px, stride=stride)

    def forward(
        self,
        inputs: Mapping[str, Tensor],
        days: Mapping[str, Tensor] | None = None,
        masks: Mapping[str, Tensor] | None = None,
        *,
        output_px: tuple[int, int] | None = None,
        base_px: tuple[int, int] | None = None,
        present: Mapping[str, Tensor] | None = None,
        shown: Mapping[str, Tensor] | None = None,
        aux: bool = False,
        stride: int = 1,
    ) -> dict[str, Tensor]:
        """Predict every task from tiles of one place.

        Args:
            inputs: modality -> [B, C, Y, X] normalised pixels, or [B, T, C, Y, X] raw series. A modality with a
                learned stand-in may be left out.
            days: series -> [B, T] days from the reference date.
            masks: series -> [B, T] true or 1 for real dates; every date is real where left out.
            output_px: rows and columns of the result; the first image modality's tile where left out, or the
                series' own size where there is no image.
            base_px: rows and columns of the first image modality's tile, where it is left out itself; deduced from
                another image's, or from training, where this is left out, too.
            present: modality -> [B] bool; the learned stand-in takes its place in the other rows, which are not
                encoded, and whose auxiliary logits are 0.
            shown: modality -> [B] bool; asks for a second look at the same tiles, in which the stand-in takes its
                place in the rows that are false. They are encoded once; the tasks' logits of second looks follow those
                of the first ones, as rows B to 2 B.
            aux: whether to add the auxiliary decoders' logits, under their names `<MODALITY>__<TASK>`. A modality
                that is left out has none.
            stride: every how manieth pixel of the result along both axes is wanted; see `enlarge`.

        Returns:
            Task -> logits [B, K, Y, X].

        Raises:
            TileError: if a modality is missing that has no stand-in, or a series has no days.
        """
        days, masks, present = days or {}, masks or {}, present or {}
        self._check(inputs, days, {*present, *(shown or {})})
        base_px = base_px or self._base_px(inputs)
        output_px = output_px or base_px
        encoded: dict[str, Maps] = {}
        result: dict[str, Tensor] = {}
        for name in self.spec.modalities:
            if name not in inputs:
                encoded[name] = self.stand_in(name)
                continue
            rows = rows_to_encode(present[name]) if name in present else None
            given = [each.get(name) for each in (inputs, days, masks)]
            maps = self._encode(name, *(each if each is None or rows is None else each[rows] for each in given))
            if aux and name in self.spec.aux:
                own = self._auxiliary(name, maps, output_px, stride)
                result |= own if rows is None else {k: spread(v, rows, len(present[name])) for k, v in own.items()}
            if rows is not None:
                maps = [spread(each, rows, len(present[name])) for each in maps]
                maps = substituted(maps, self.stand_in(name), present[name])
            encoded[name] = maps
        if shown is not None:
            # what takes the place of a modality that all lack fits any number of rows
            for name in inputs:
                maps = encoded[name]
                again = substituted(maps, self.stand_in(name), shown[name]) if name in shown else maps
                encoded[name] = looked_twice(maps, again)
        pyramid = self._pyramid(encoded, sizes=self._level_sizes(inputs, base_px))
        for task in self.spec.tasks:
            result[task.name] = self.enlarge(self.decode(task.name, pyramid), output_px=output_px, stride=stride)
        return result

    def stand_in(self, modality: str) -> Maps:
        """The learned maps [1, C_l, 1, 1] that replace an absent modality, not yet projected."""
        levels = cast(nn.ParameterList, self.absent[modality])
        return [level[None, :, None, None] for level in levels]

    def _pyramid(self, encoded: Mapping[str, Maps], *, sizes: Sequence[tuple[int, int]] | None) -> Maps:
        """Project and fuse the maps of all modalities; on CUDA the base's product and the sum are one kernel a level.

        Args:
            encoded: modality -> maps, not yet projected.
            sizes: rows and columns of the levels; those of the first modality's maps where None.
        """
        if not self.spec.fused or sizes is not None:
            return self.fuse({name: self.project(name, maps) for name, maps in encoded.items()}, sizes=sizes)
        first, *others = self.spec.modalities
        levels = zip(*(self.project(name, encoded[name]) for name in others), strict=True)
        return [
            project_and_fuse(base, weight=weight, bias=bias, maps=maps)
            for base, (weight, bias), maps in zip(encoded[first], self.fusion_slices(first), levels, strict=True)
        ]

    def _encode(self, modality: str, pixels: Tensor | None, days: Tensor | None, mask: Tensor | None) -> Maps:
        """Maps of an image, or of a series where there are days."""
        assert pixels is not None
        if days is None:
            return self.encode_image(modality, pixels)
        return self.encode_series(modality, pixels, days, torch.ones_like(days) if mask is None else mask)

    def _auxiliary(
        self, modality: str, maps: Maps, output_px: tuple[int, int] | None, stride: int
    ) -> dict[str, Tensor]:
        """Logits of one modality's own decoders."""
        result = {}
        image = self.spec.image(modality) is not None
        for task in self.spec.tasks:
            name = f"{modality}__{task.name}"
            decoder = self.aux_decoders[name]
            if image:
                result[name] = self.enlarge(decoder(maps), output_px=output_px, stride=stride)
                continue
            encoder = cast(SeriesEncoder, self.encoders[modality])
            scores = encoder.classify(maps) if self.spec.images else maps[0]
            logits = cast(Tensor, decoder(scores))
            result[name] = enlarged(logits, scale=1, output_px=output_px, stride=stride)
        return result

    def _convolutions(self) -> list[nn.Conv2d]:
        return cast("list[nn.Conv2d]", list(cast(nn.ModuleList, self.fusion_handler["conv_f"])))

    def _check(self, inputs: Mapping[str, Tensor], days: Mapping[str, Tensor], dispensed: Collection[str]) -> None:
        """Refuse inputs that do not fit the modalities, naming them.

        Args:
            inputs: modality -> tiles.
            days: series -> days.
            dispensed: modalities that some rows are to do without.
        """
        unknown = [name for name in (*inputs, *dispensed) if name not in self.spec.modalities]
        if unknown:
            raise TileError(f"inputs hold {unknown}, expected {list(self.spec.modalities)}; leave them out")
        if not inputs:
            raise TileError(f"no modality given, expected {list(self.spec.modalities)}; give at least one")
        needed = [name for name in self.spec.modalities if name not in inputs or name in dispensed]
        missing = [name for name in needed if name not in self.spec.absent]
        if missing:
            raise TileError(
                f"modalities {missing} are missing and the network has not learned to do without them; "
                f"give them, or use one that has a stand-in for them (this one has for {list(self.spec.absent)})"
            )
        undated = [each.name for each in self.spec.series if each.name in inputs and each.name not in days]
        if undated:
            raise TileError(f"series {undated} have no days; give days from the reference date as [B, T]")

    def _base_px(self, inputs: Mapping[str, Tensor]) -> tuple[int, int] | None:
        """Tile size of the first image modality, deduced from another one's where it is absent."""
        if not self.spec.images:
            return None
        base = self.spec.images[0]
        for image in self.spec.images:
            if image.name in inputs:
                rows, columns = inputs[image.name].shape[-2:]
                return rows * base.tile_px // image.tile_px, columns * base.tile_px // image.tile_px
        return base.tile_px, base.tile_px

    def _level_sizes(
        self, inputs: Mapping[str, Tensor], base_px: tuple[int, int] | None
    ) -> list[tuple[int, int]] | None:
        """Sizes to fuse at; left to the first modality's own maps where it is there."""
        first = self.spec.modalities[0]
        if first in inputs:
            return None
        if self.spec.images and base_px is not None:
            return list(zip(*map(self.spec.images[0].backbone.level_sides, base_px), strict=True))
        rows, columns = next(inputs[name] for name in self.spec.modalities if name in inputs).shape[-2:]
        return [(rows, columns)]


def _fusion(spec: NetworkSpec) -> nn.ModuleList:
    """The fusion's convolutions; published checkpoints carry them where nothing is fused, too."""
    if not spec.images:
        return nn.ModuleList([nn.Conv2d(1, 1, 1)])
    levels = zip(*map(spec.level_channels, spec.modalities), strict=True)
    return nn.ModuleList(
        nn.Conv2d(sum(channels), out, 1) for channels, out in zip(levels, spec.images[0].backbone.dims, strict=True)
    )
