"""From the names and shapes of parameters to the network that has them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

from ...engine.errors import CheckpointError
from ...engine.flairhub import MODALITIES, TASKS
from .images import STEM
from .spec import LEVELS, BackboneSpec, Decoder, ImageSpec, NetworkSpec, SeriesSpec, TaskSpec

__all__ = ["read_spec"]

Shapes = Mapping[str, tuple[int, ...]]
Part = TypeVar("Part")


def read_spec(shapes: Shapes, *, tile_px: Mapping[str, int] | None = None) -> NetworkSpec:
    """Tell a network from its parameters.

    Nothing but the sizes of tiles is assumed; that every other key fits is for the one who loads them to check.

    Args:
        shapes: parameter name, without the prefix `model.`, to shape.
        tile_px: image modality -> tile side in pixels; FLAIR-HUB's where left out.

    Raises:
        CheckpointError: names or shapes do not make one of the networks; every fault found is named.
    """
    sides = dict(tile_px or {})
    names = _children(shapes, "encoders")
    if not names:
        raise CheckpointError("no key begins with encoders.; give the weights of a whole network")
    unknown = [name for name in names if name not in MODALITIES]
    if unknown:
        raise CheckpointError(f"encoders of {unknown} are unknown; expected some of {list(MODALITIES)}")
    modalities = [name for name in MODALITIES if name in names]
    faults: list[str] = []

    def collect(read: Callable[[str], Part], parts: Iterable[str]) -> tuple[Part, ...]:
        """Read parts one by one, so that one's fault does not hide another's."""
        found = []
        for part in parts:
            try:
                found.append(read(part))
            except CheckpointError as error:  # noqa: PERF203 - a handful of parts
                faults.append(str(error))
        return tuple(found)

    image_names = [name for name in modalities if MODALITIES[name].kind == "image"]
    lenders = {name: image_names[0] for name in image_names[1:] if _stem_alone(shapes, name)}
    images = collect(
        lambda name: _image(shapes, name, tile_px=sides.get(name, MODALITIES[name].tile_px), lender=lenders.get(name)),
        image_names,
    )
    series = collect(lambda name: _series(shapes, name), [n for n in modalities if MODALITIES[n].kind == "series"])
    labels = _children(shapes, "main_decoders")
    labels = [*(name for name in TASKS if name in labels), *(name for name in labels if name not in TASKS)]
    tasks = collect(lambda name: _task(shapes, name), labels)
    widths = collect(lambda name: _decoder(shapes, name), labels[:1] if images else [])
    if faults:
        raise CheckpointError("; ".join(dict.fromkeys(faults)))
    decoder, pyramid, last, unet = widths[0] if widths else _DEFAULT
    decorated = {name.split("__")[0] for name in _children(shapes, "aux_decoders")}
    return NetworkSpec(
        images=images,
        series=series,
        tasks=tasks,
        decoder=decoder,
        pyramid_channels=pyramid,
        segmentation_channels=last,
        unet_channels=unet,
        aux=_ordered(decorated),
        absent=_ordered(set(_children(shapes, "absent"))),
        shared=tuple(lenders),
    )


Widths = tuple[Decoder, int, int, tuple[int, ...]]
_DEFAULT: Widths = ("upernet", 256, 64, (256, 128, 64, 32, 16))
_UNET_BLOCKS = 5


def _ordered(names: set[str]) -> tuple[str, ...]:
    """Known modalities in their order, before names that will be refused."""
    return (*(name for name in MODALITIES if name in names), *sorted(names - set(MODALITIES)))


def _children(shapes: Shapes, parent: str) -> list[str]:
    """Names one level below `parent`, each once, in order of appearance."""
    prefix = f"{parent}."
    return list(dict.fromkeys(key[len(prefix) :].split(".", 1)[0] for key in shapes if key.startswith(prefix)))


def _need(shapes: Shapes, key: str, rank: int) -> tuple[int, ...]:
    """Shape of a key that the network is told from."""
    if key not in shapes:
        raise CheckpointError(f"{key} is missing, and the network is told from it; give complete weights")
    shape = tuple(shapes[key])
    if len(shape) != rank or 0 in shape:
        raise CheckpointError(f"{key} has shape {list(shape)}, expected {rank} axes, none empty")
    return shape


def _stem_alone(shapes: Shapes, name: str) -> bool:
    """Whether an image's encoder is a stem, and behind it another's."""
    layers = _children(shapes, f"encoders.{name}.seg_model.model")
    return bool(layers) and all(layer.startswith(STEM) for layer in layers)


def _image(shapes: Shapes, name: str, *, tile_px: int, lender: str | None) -> ImageSpec:
    root = f"encoders.{name}.seg_model.model"
    stem = "stem_0" if f"{root}.stem_0.weight" in shapes else "patch_embed.proj"
    channels = _need(shapes, f"{root}.{stem}.weight", 4)[1]
    return ImageSpec(name, channels, tile_px, _backbone(shapes, f"encoders.{lender or name}.seg_model.model"))


def _backbone(shapes: Shapes, root: str) -> BackboneSpec:
    return _convnext(shapes, root) if f"{root}.stem_0.weight" in shapes else _swin(shapes, root)


def _convnext(shapes: Shapes, root: str) -> BackboneSpec:
    stages = range(LEVELS)
    dims = [_need(shapes, f"{root}.stem_0.weight", 4)[0]]
    dims += [_need(shapes, f"{root}.stages_{stage}.downsample.1.weight", 4)[0] for stage in stages[1:]]
    depths = tuple(len(_children(shapes, f"{root}.stages_{stage}.blocks")) for stage in stages)
    return BackboneSpec("convnextv2", tuple(dims), depths)


def _swin(shapes: Shapes, root: str) -> BackboneSpec:
    stages = range(LEVELS)
    dims = [_need(shapes, f"{root}.patch_embed.proj.weight", 4)[0]]
    dims += [_need(shapes, f"{root}.layers_{stage}.downsample.reduction.weight", 2)[0] for stage in stages[1:]]
    depths = tuple(len(_children(shapes, f"{root}.layers_{stage}.blocks")) for stage in stages)
    windows, heads = [], []
    for stage in stages:
        key = f"{root}.layers_{stage}.blocks.0.attn.relative_position_bias_table"
        places, stage_heads = _need(shapes, key, 2)
        window, odd = divmod(math.isqrt(places) + 1, 2)
        if odd or (2 * window - 1) ** 2 != places:
            raise CheckpointError(f"{key} has {places} rows, expected (2 w - 1)^2 for a square window of side w")
        windows.append(window)
        heads.append(stage_heads)
    return BackboneSpec("swin", tuple(dims), depths, tuple(heads), tuple(windows))


def _series(shapes: Shapes, name: str) -> SeriesSpec:
    root = f"encoders.{name}"
    first = _need(shapes, f"{root}.in_conv.conv.conv.0.weight", 4)
    downs = range(len(_children(shapes, f"{root}.down_blocks")))
    ups = range(len(_children(shapes, f"{root}.up_blocks")))
    encoder = [first[0], *(_need(shapes, f"{root}.down_blocks.{i}.conv1.conv.0.weight", 4)[0] for i in downs)]
    decoder = [_need(shapes, f"{root}.up_blocks.{i}.up.0.weight", 4)[1] for i in ups]
    decoder.insert(0, _need(shapes, f"{root}.up_blocks.0.up.0.weight", 4)[0])
    for key in (f"{root}.down_blocks.0.down.conv.0.weight", f"{root}.up_blocks.0.up.0.weight"):
        kernel = _need(shapes, key, 4)[2:]
        if kernel != (3, 3):
            raise CheckpointError(
                f"{key} has a {kernel[0]} x {kernel[1]} kernel, expected 3 x 3: other ones have strides"
            )
    layers = [int(index) for index in _children(shapes, f"{root}.out_conv.conv.conv") if index.isdecimal()]
    convolutions = [index for index in sorted(layers) if index % 3 == 0]
    out = tuple(_need(shapes, f"{root}.out_conv.conv.conv.{index}.weight", 4)[0] for index in convolutions)
    heads, d_key = _need(shapes, f"{root}.temporal_encoder.attention_heads.Q", 2)
    d_model = _need(shapes, f"{root}.temporal_encoder.inconv.weight", 3)[0]
    return SeriesSpec(name, first[1], tuple(encoder), tuple(decoder[::-1]), heads, d_key, d_model, out)


def _task(shapes: Shapes, name: str) -> TaskSpec:
    root = f"main_decoders.{name}"
    key = f"{root}.weight" if f"{root}.weight" in shapes else f"{root}.seg_model.segmentation_head.0.weight"
    return TaskSpec(name, _need(shapes, key, 4)[0])


def _decoder(shapes: Shapes, task: str) -> Widths:
    root = f"main_decoders.{task}.seg_model.decoder"
    if f"{root}.blocks.0.conv1.0.weight" in shapes:
        blocks = range(_UNET_BLOCKS)
        unet = tuple(_need(shapes, f"{root}.blocks.{block}.conv1.0.weight", 4)[0] for block in blocks)
        return "unet", *_DEFAULT[1:3], unet
    pyramid = _need(shapes, f"{root}.psp.out_conv.0.weight", 4)[0]
    return "upernet", pyramid, _need(shapes, f"{root}.fpn_bottleneck.0.weight", 4)[0], _DEFAULT[3]
