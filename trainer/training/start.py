"""The weights that a training begins with: random ones, timm's, or those of another network."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from ...engine.errors import CheckpointError
from ..network import NetworkSpec, UPerFuse
from ..network.images import STEM, timm_weights
from .config import TrainConfig

__all__ = ["adopt", "begin"]

_FUSION = "fusion_handler.conv_f."
_HEAD = "segmentation_head."


def begin(
    spec: NetworkSpec, config: TrainConfig, *, old: UPerFuse | None, say: Callable[[str], None] = print
) -> UPerFuse:
    """Make the network with the weights that the configuration says.

    Args:
        spec: of the network.
        config: of the training; its seed draws what is random.
        old: the network of the checkpoint to start from, if any.
        say: where lines go that tell what was taken from where.

    Raises:
        CheckpointError: the weights cannot be had, or do not fit.
    """
    torch.manual_seed(config.recipe.seed)
    network = UPerFuse(spec)
    if old is not None:
        for line in adopt(network, old):
            say(line)
    elif config.start.pretrained:
        files = config.start.pretrained if isinstance(config.start.pretrained, dict) else {}
        for image in spec.images:
            # of an encoder that is shared the stem is the image's own, and timm fits it to its bands
            owner = spec.images[0].name if image.name in spec.shared else image.name
            named = config.modalities[owner].encoder or (config.network and config.network.encoder)
            encoder = named if isinstance(named, str) else None
            if encoder is None:
                raise CheckpointError(
                    f"{owner}: an encoder given by its numbers has no weights of timm's; name one of timm's"
                )
            weights = timm_weights(encoder, image, file=files.get(encoder))
            backbone = network.encoders[image.name].get_submodule("seg_model.model")
            if owner != image.name:
                weights = {name: value for name, value in weights.items() if name.startswith(STEM)}
            backbone.load_state_dict(weights, strict=True)
            say(f"{'encoder' if owner == image.name else 'stem'} of {image.name}: {encoder} of timm")
    return network


@torch.no_grad()
def adopt(network: UPerFuse, old: UPerFuse) -> list[str]:
    """Take over the weights of a network that has other modalities or tasks.

    What both have is copied. A modality that only the new one has enters the fusion with weights of 0, so that the
    network begins as it was; one that only the old one had is left out. A task with other classes gets a new last
    layer; one of another name, the decoder of the old network's first task with a new last layer. An encoder that is
    shared begins as that of the first image, or of the first that shares it, which the old network has; one that is no
    longer shared begins as it was.

    Args:
        network: is changed.
        old: is not.

    Returns:
        A line for everything that does not begin with the old network's weights, or was left behind.

    Raises:
        CheckpointError: a shape differs where both should be alike; nothing is changed then.
    """
    given, wanted = old.state_dict(), network.state_dict()
    taken: dict[str, Tensor] = _fusion(network.spec, old.spec, given)
    lines, faults = _fusion_lines(network.spec, old.spec), []
    fresh: dict[str, None] = {}
    used = {key for key in given if key.startswith(_FUSION)}
    for key, value in wanted.items():
        if key in taken:
            continue
        if key.startswith(_FUSION) and old.spec.fused and not network.spec.fused:
            continue  # checkpoints carry a fusion where nothing is fused, too; it stays as it is
        source = _source(key, network.spec, old.spec)
        if source in given and given[source].shape == value.shape:
            taken[key] = given[source]
            used.add(source)
        elif source in given and not _may_differ(key):
            faults.append(f"{key} has shape {list(value.shape)}, the checkpoint's {list(given[source].shape)}")
        else:
            fresh[_part(key, network.spec)] = None
    if faults:
        listed = "\n  ".join(faults)
        raise CheckpointError(
            f"the checkpoint does not fit the network that is to begin with it; give both the same bands and encoders, "
            f"or begin without it:\n  {listed}"
        )
    left = dict.fromkeys(_part(key, network.spec) for key in given if key not in used)
    lines += [f"new, with random weights: {', '.join(fresh)}"] if fresh else []
    lines += [f"left behind: {', '.join(left)}"] if left else []
    network.load_state_dict(wanted | taken, strict=True)
    return lines


def _source(key: str, new: NetworkSpec, old: NetworkSpec) -> str:
    """Name under which the old network has a weight of the new one."""
    root, name, *rest = key.split(".", 2)
    names = [each.name for each in old.tasks]
    if root == "main_decoders" and name not in names:
        return ".".join((root, names[0], *rest))
    if root == "encoders" and not _of_stem(key) and (new.shared or old.shared):
        lent = (name, *new.shared) if new.shared and name == new.images[0].name else (name,)
        known = next((each for each in lent if each in old.modalities), name)
        return ".".join((root, old.images[0].name if known in old.shared else known, *rest))
    return key


def _of_stem(key: str) -> bool:
    """Whether a weight is one of an encoder's that another sensor's does not share."""
    return f".seg_model.model.{STEM}" in key


def _may_differ(key: str) -> bool:
    """Whether a weight's shape follows from the number of classes."""
    if key.startswith(("main_decoders.", "aux_decoders.")):
        return _HEAD in key or ".seg_model." not in key
    return key.startswith("encoders.") and ".out_conv." in key


def _part(key: str, new: NetworkSpec) -> str:
    """What a weight belongs to, as a line names it."""
    parts = key.split(".")
    if parts[0] == "encoders" and parts[1] in new.shared:
        return f"{'stem' if _of_stem(key) else 'stages'} of {parts[1]}"
    if parts[0] == "main_decoders" and _HEAD in key:
        return f"last layer of {parts[1]}"
    if parts[0] == "encoders" and "out_conv" in parts:
        return f"class scores of {parts[1]}"
    return ".".join(parts[:2])


def _fusion(new: NetworkSpec, old: NetworkSpec, given: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The fusion's weights, put together from the old one's parts for each modality; none where there is no fusion."""
    if not new.fused or not _same_grid(new, old):
        return {}
    taken: dict[str, Tensor] = {}
    for level in range(len(new.images[0].backbone.dims)):
        weight = given[f"{_FUSION}{level}.weight"]
        slices: list[Tensor] = []
        for name in new.modalities:
            channels = new.level_channels(name)[level]
            if old.fused and _joined(name, new, old):
                before = old.modalities[: old.modalities.index(name)]
                start = sum(old.level_channels(each)[level] for each in before)
                slices.append(weight[:, start : start + channels])
            elif not old.fused and name == old.modalities[0]:
                # it passed its maps on as they were
                slices.append(torch.eye(len(weight))[:, :, None, None])
            else:
                slices.append(weight.new_zeros(len(weight), channels, 1, 1))
        taken[f"{_FUSION}{level}.weight"] = torch.cat(slices, dim=1)
        bias = given[f"{_FUSION}{level}.bias"]
        taken[f"{_FUSION}{level}.bias"] = bias if old.fused else torch.zeros_like(bias)
    return taken


def _fusion_lines(new: NetworkSpec, old: NetworkSpec) -> list[str]:
    if not new.fused:
        return ["left behind: the fusion, whose work the decoders have to learn"] if old.fused else []
    added = [name for name in new.modalities if not _joined(name, new, old)]
    if not _same_grid(new, old):
        return ["new, with random weights: the fusion, for the first image is another one"]
    return [f"joins the fusion with weights of 0: {', '.join(added)}"] if added else []


def _joined(name: str, new: NetworkSpec, old: NetworkSpec) -> bool:
    """Whether the old network has a modality, with maps like the new one's."""
    return name in old.modalities and new.level_channels(name) == old.level_channels(name)


def _same_grid(new: NetworkSpec, old: NetworkSpec) -> bool:
    return bool(old.images) and new.images[0].backbone.dims == old.images[0].backbone.dims
