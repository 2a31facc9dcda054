"""The network as its authors compute it, in plain PyTorch, with the weights of ours.

Maps of all modalities are enlarged and stored one behind the other before one convolution fuses them; temporal
attention stores an embedding and a key of every date. What the public code computes in vain (temporal blocks run once
more on zeros, class scores of series that nobody reads) is left out: that code itself takes part through
`python -m benchmarks.reference`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from uperfuse.engine.agreement import relative_error
from uperfuse.engine.plan.manifest import Manifest
from uperfuse.engine.prepare import prepare_image, prepare_series
from uperfuse.engine.tiles import ImageTile, check_tiles
from uperfuse.kernels.temporal_attention.reference import EPSILON, AttentionWeights, positions
from uperfuse.trainer.network import UPerFuse
from uperfuse.trainer.network.series import SeriesEncoder

__all__ = ["AUTHORS_WAY", "Forward", "Inputs", "Peer", "Published", "check_peer", "inputs_of", "textbook_attention"]

Inputs = tuple[dict[str, Tensor], dict[str, Tensor]]
"""Modality -> prepared pixels, and series -> days."""

_WORST, _EQUAL = 1e-4, 0.9999

Forward = Callable[[Mapping[str, Tensor], Mapping[str, Tensor]], dict[str, Tensor]]
"""From prepared pixels and days to logits of every task; of series alone, at their own size."""


@dataclass(frozen=True)
class Peer:
    """Another implementation of a network, with the weights of ours.

    Attributes:
        name: in words.
        build: makes it from ours.
    """

    name: str
    build: Callable[[UPerFuse], Forward]


class Published(nn.Module):
    """FLAIR-HUB's network as published; every date of a series is real.

    Args:
        network: whose weights it takes.
    """

    def __init__(self, network: UPerFuse) -> None:
        super().__init__()
        self.network = network

    def forward(self, inputs: Mapping[str, Tensor], days: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Logits [B, K, Y, X] of every task; of series alone at their own size, averaged over sensors."""
        network, spec = self.network, self.network.spec
        maps = {
            name: self.encode_series(name, inputs[name], days[name])
            if name in days
            else network.encode_image(name, inputs[name])
            for name in spec.modalities
        }
        if not spec.images:
            scores = [cast(SeriesEncoder, network.encoders[name]).classify(each) for name, each in maps.items()]
            mean = torch.stack(scores).mean(0)
            return {task.name: network.decode(task.name, [mean]) for task in spec.tasks}
        pyramid = self._fuse(maps) if spec.fused else next(iter(maps.values()))
        return {task.name: network.enlarge(network.decode(task.name, pyramid)) for task in spec.tasks}

    def encode_series(self, name: str, pixels: Tensor, days: Tensor) -> list[Tensor]:
        """Maps of a series [B, T, C, Y, X], deepest first."""
        encoder = cast(Any, self.network.encoders[name])
        B, T = days.shape
        levels = [encoder.in_conv(pixels.flatten(0, 1))]
        for block in encoder.down_blocks:
            levels.append(block(levels[-1]))
        *skips, deepest = (level.unflatten(0, (B, T)) for level in levels)
        temporal = encoder.temporal_encoder
        weights = AttentionWeights(
            norm_scale=temporal.in_norm.weight,
            norm_shift=temporal.in_norm.bias,
            embed=temporal.inconv.weight[..., 0],
            embed_bias=temporal.inconv.bias,
            key=temporal.attention_heads.fc1_k.weight,
            key_bias=temporal.attention_heads.fc1_k.bias,
            query=temporal.attention_heads.Q,
        )
        context, attention = textbook_attention(deepest, days, weights=weights)  # [N, D], [B, H, T, Y, X]
        Y, X = pixels.shape[-2:]
        maps = [temporal.out_norm(temporal.mlp(context)).unflatten(0, (B, Y, X)).permute(0, 3, 1, 2)]
        shares = attention.transpose(1, 2)[:, :, :, None]  # [B, T, H, 1, Y, X]
        for block, skip in zip(encoder.up_blocks, reversed(skips), strict=True):
            weighted = skip.unflatten(2, (shares.shape[2], -1)) * shares
            maps.append(block(maps[-1], weighted.sum(1).flatten(1, 2)))
        return maps

    def _fuse(self, maps: Mapping[str, list[Tensor]]) -> list[Tensor]:
        first, *_ = (maps[name] for name in self.network.spec.modalities)
        convolutions = cast(Any, self.network.fusion_handler["conv_f"])
        return [
            convolution(
                torch.cat(
                    [
                        F.interpolate(each[level], size=first[level].shape[-2:], mode="bilinear", align_corners=False)
                        for each in maps.values()
                    ],
                    dim=1,
                )
            )
            for level, convolution in enumerate(convolutions)
        ]


AUTHORS_WAY = Peer("PyTorch eager float32 as the authors compute it", lambda network: Published(network).eval())


def check_peer(forward: Forward, network: UPerFuse, given: Inputs) -> None:
    """Refuse to time what is not the same network.

    Raises:
        AssertionError: logits differ from our network's in PyTorch by more than rounding.
    """
    with torch.inference_mode():
        theirs, ours = forward(*given), network(*given)
    for task, logits in theirs.items():
        error = relative_error(ours[task].numpy(), logits.numpy())
        equal = float((ours[task].argmax(1) == logits.argmax(1)).float().mean())
        print(f"{task}: logits in PyTorch, theirs and ours, differ by {error:.1e}; {equal:.4%} of classes are equal")
        assert error <= _WORST, f"not the same network, expected {_WORST:.0e}"
        assert equal >= _EQUAL, f"not the same network, expected {_EQUAL:.2%}"


def textbook_attention(features: Tensor, days: Tensor, *, weights: AttentionWeights) -> tuple[Tensor, Tensor]:
    """Temporal attention with its embeddings and keys in memory.

    Args:
        features: [B, T, C, Y, X].
        days: [B, T].
        weights: of the attention.

    Returns:
        Context [B * Y * X, D], and attention [B, H, T, Y, X].
    """
    B, T, _, Y, X = features.shape
    H, K = weights.query.shape
    series = features.permute(0, 3, 4, 2, 1).flatten(0, 2)  # [N, C, T]
    series = F.group_norm(series, H, weights.norm_scale, weights.norm_shift, EPSILON)
    embedding = F.conv1d(series, weights.embed[..., None], weights.embed_bias).transpose(1, 2)  # [N, T, D]
    position = positions(days, width=embedding.shape[2] // H, period=weights.period).tile(1, 1, H)
    embedding = embedding + position.repeat_interleave(Y * X, 0)
    keys = F.linear(embedding, weights.key, weights.key_bias).reshape(-1, T, H, K)
    share = (keys * weights.query).sum(3).div(K**0.5).softmax(1).transpose(1, 2)  # [N, H, T]
    values = embedding.reshape(-1, T, H, embedding.shape[2] // H).transpose(1, 2)  # [N, H, T, D / H]
    context = (share[:, :, None] @ values).flatten(1)
    return context, share.reshape(B, Y, X, H, T).permute(0, 3, 4, 1, 2)


def inputs_of(manifest: Manifest, tiles: Mapping[str, Any]) -> Inputs:
    """Tiles as the network in PyTorch takes them: normalised, one behind the other, nothing padded.

    Args:
        manifest: of the plan.
        tiles: as `Engine.predict` takes them; series with equally many dates.
    """
    inputs: dict[str, list[np.ndarray[Any, Any]]] = {}
    days: dict[str, list[np.ndarray[Any, Any]]] = {}
    for tile in check_tiles(tiles, manifest=manifest):
        for name, given in tile.items():
            if isinstance(given, ImageTile):
                inputs.setdefault(name, []).append(prepare_image(given, manifest.modality(name)))
            else:
                pixels, day, _ = prepare_series(given, manifest.modality(name), buckets=(len(given.days),))
                inputs.setdefault(name, []).append(pixels)
                days.setdefault(name, []).append(day)
    joined = ({name: torch.from_numpy(np.concatenate(each)) for name, each in some.items()} for some in (inputs, days))
    return next(joined), next(joined)
