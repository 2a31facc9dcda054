"""Image encoders: backbones of timm that accept any tile size."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import timm
import torch
from timm.layers.patch_embed import PatchEmbed
from timm.layers.pos_embed_rel import resize_rel_pos_bias_table_simple
from timm.models.swin_transformer import SwinTransformerBlock, WindowAttention
from torch import Tensor, nn

from ...engine.errors import CheckpointError
from ...kernels import dispatch
from ...kernels.window_attention import admits, window_attention
from .spec import BackboneSpec, ImageSpec, stage_sides

__all__ = ["STEM", "ImageEncoder", "ImageStem", "timm_weights"]

STEM = "stem_"
"""With it the names of a ConvNeXt's layers up to its first normalisation begin; those behind it know no bands."""


class _Backbone(nn.Module):
    """Carries timm's model under the name that published checkpoints give it."""

    def __init__(self, spec: ImageSpec) -> None:
        super().__init__()
        self.model = _create(spec.backbone, channels=spec.channels, tile_px=spec.tile_px)


class _StemOfBackbone(nn.Module):
    """Carries the stem of timm's ConvNeXt alone, under the names that it has there."""

    def __init__(self, spec: ImageSpec) -> None:
        super().__init__()
        model = _create(spec.backbone, channels=spec.channels, tile_px=spec.tile_px)
        self.model = nn.Sequential(
            OrderedDict((name, layer) for name, layer in model.named_children() if name.startswith(STEM))
        )


class ImageEncoder(nn.Module):
    """One image modality's backbone: a tile to maps at 1/4, 1/8, 1/16 and 1/32.

    The attention windows stay those of the specification whatever the tile. A stage no larger than its window is
    one window without shift, a larger one alternates plain and shifted windows, and where windows do not divide a
    stage it is padded, all as timm does; at the tile of the specification the result is exactly timm's.
    """

    def __init__(self, spec: ImageSpec) -> None:
        super().__init__()
        self.seg_model = _Backbone(spec)
        self._swin = spec.backbone.family == "swin"
        for _, _, block in self._blocks():
            # timm makes its blocks itself; this changes what a block does, and neither its parameters nor their names
            block.__class__ = _Block
        self.set_tile((spec.tile_px, spec.tile_px))

    @torch.inference_mode(mode=False)  # masks made here must serve training, too
    def set_tile(self, shape_yx: tuple[int, int]) -> None:
        """Fit shifts and masks of the attention to another tile; `forward` calls it when the size changes.

        Args:
            shape_yx: rows and columns of the tiles to come.
        """
        self._shape_yx = shape_yx
        rows, columns = (stage_sides(side) for side in shape_yx)
        for stage, shifted, block in self._blocks():
            _fit(block, (rows[stage], columns[stage]), shifted=shifted)

    def forward(self, pixels: Tensor) -> list[Tensor]:
        """Encode tiles.

        Args:
            pixels: [B, C, Y, X], normalised.

        Returns:
            Four maps [B, C_l, Y / 4 .. Y / 32, X / 4 .. X / 32], finest first.
        """
        shape_yx = (int(pixels.shape[2]), int(pixels.shape[3]))
        if shape_yx != self._shape_yx:
            self.set_tile(shape_yx)
        maps = self.seg_model.model(pixels)
        return [each.permute(0, 3, 1, 2) for each in maps] if self._swin else list(maps)

    def stages(self, stem: Tensor) -> list[Tensor]:
        """Encode what the stem of another sensor made of its tiles; of a ConvNeXt alone.

        Args:
            stem: [B, C_0, Y / 4, X / 4], normalised by that stem.

        Returns:
            As `forward`.
        """
        maps = []
        for name, stage in self.seg_model.model.named_children():
            if not name.startswith(STEM):
                stem = stage(stem)
                maps.append(stem)
        return maps

    def _blocks(self) -> Iterator[tuple[int, bool, SwinTransformerBlock]]:
        """Every attention block with its stage and whether its windows are shifted."""
        for name, stage in self.seg_model.model.named_children():
            if name.startswith("layers_"):
                for index, block in enumerate(cast(nn.Sequential, stage.blocks)):
                    assert isinstance(block, SwinTransformerBlock)
                    yield int(name.removeprefix("layers_")), index % 2 == 1, block


class ImageStem(nn.Module):
    """What an image modality has of its own that shares another's ConvNeXt: a tile to a map at 1/4, for its stages."""

    def __init__(self, spec: ImageSpec) -> None:
        super().__init__()
        self.seg_model = _StemOfBackbone(spec)

    def forward(self, pixels: Tensor) -> Tensor:
        """Make a map [B, C_0, Y / 4, X / 4] of normalised pixels [B, C, Y, X]."""
        stem: Tensor = self.seg_model.model(pixels)
        return stem


class _Block(SwinTransformerBlock):
    """timm's block, whose attention runs as the kernel where kernels run and take it."""

    def _attn(self, x: Tensor) -> Tensor:
        """Attention [B, Y, X, C] of the normalised tokens [B, Y, X, C]."""
        attention: WindowAttention = self.attn
        head_width = attention.qkv.out_features // (3 * attention.num_heads)
        # the kernel drops no weights
        dropping = self.training and attention.attn_drop.p > 0
        if not dispatch.fused(x) or dropping or not admits(head_width=head_width, window=self.window_size):
            return cast(Tensor, super()._attn(x))  # type: ignore[no-untyped-call]
        qkv = attention.qkv(x)
        # timm pads the normalised map with zeros, of which the layer makes its bias
        bias = attention.qkv.bias
        mixed = window_attention(
            qkv,
            attention.relative_position_bias_table,
            qkv.new_zeros(qkv.shape[-1]) if bias is None else bias,
            heads=attention.num_heads,
            window=self.window_size,
            shift=self.shift_size,
        )
        return cast(Tensor, attention.proj_drop(attention.proj(mixed)))


def timm_weights(encoder: str, spec: ImageSpec, *, file: Path | None = None) -> dict[str, Tensor]:
    """Timm's pretrained weights of a backbone, fitted to its bands and windows.

    Args:
        encoder: timm's name.
        spec: of the image whose backbone it is.
        file: the weights on disk; None gets them from timm's hub.

    Returns:
        Names and values for `ImageEncoder.seg_model.model`.

    Raises:
        CheckpointError: they cannot be had.
    """
    overlay = None if file is None else {"file": str(file)}
    try:
        model = timm.create_model(
            encoder, pretrained=True, features_only=True, in_chans=spec.channels, pretrained_cfg_overlay=overlay
        )
    except (OSError, RuntimeError, KeyError, ValueError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        where = "timm's hub" if file is None else str(file)
        raise CheckpointError(
            f"weights of {encoder} cannot be had from {where} ({reason}); give a file of them "
            f"under start: pretrained: {encoder}: FILE, or begin with random ones"
        ) from error
    return {name: _fitted(name, value, spec.backbone) for name, value in model.state_dict().items()}


def _fitted(name: str, value: Tensor, backbone: BackboneSpec) -> Tensor:
    """One of timm's weights in the shape that a backbone has it in."""
    if ".mlp.fc" in name and value.ndim == 4:
        # timm's small ConvNeXts multiply pixels by convolutions of one pixel, which is the same
        return value.flatten(1)
    if name.endswith(".relative_position_bias_table"):
        side = 2 * backbone.windows[int(name.split(".")[0].removeprefix("layers_"))] - 1
        if len(value) != side**2:
            resized: Tensor = resize_rel_pos_bias_table_simple(value, ((side + 1) // 2,) * 2, (side**2, value.shape[1]))
            return resized
    return value


def _create(spec: BackboneSpec, *, channels: int, tile_px: int) -> nn.Module:
    """Build timm's model, with random weights."""
    if spec.family == "convnextv2":
        return timm.create_model(
            "convnextv2_tiny", features_only=True, in_chans=channels, depths=spec.depths, dims=spec.dims
        )
    model = timm.create_model(
        "swin_tiny_patch4_window7_224",
        features_only=True,
        in_chans=channels,
        img_size=tile_px,
        embed_dim=spec.dims[0],
        depths=spec.depths,
        num_heads=spec.heads,
        window_size=spec.windows,
        always_partition=True,  # or it would shrink windows, and their bias tables, to small stages
    )
    embedding = cast(PatchEmbed, model.patch_embed)
    embedding.strict_img_size = False
    embedding.dynamic_img_pad = True
    return model


def _fit(block: SwinTransformerBlock, shape_yx: tuple[int, int], *, shifted: bool) -> None:
    """Give a block the shift and the mask that belong to a stage of this size."""
    block.input_resolution = shape_yx
    rows, columns = (
        window // 2 if shifted and side > window else 0
        for side, window in zip(shape_yx, block.window_size, strict=True)
    )
    block.shift_size = rows, columns
    block.init_non_persistent_buffers()
