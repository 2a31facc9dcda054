"""A segment's network as it is exported: modules whose graphs compilers run badly, replaced by equal ones."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import cast

from timm.models.swin_transformer import SwinTransformerBlock, SwinTransformerStage
from torch import nn

from ..network.decoders import UPerNet
from .segments import SegmentModule
from .taps import TapsDecoder
from .windows import WindowBlocks

__all__ = ["rewritten"]


def rewritten(segment: SegmentModule) -> SegmentModule:
    """A segment that gives the same numbers up to rounding, for tiles of its example's size alone.

    Args:
        segment: in evaluation mode; its modules are left alone, and weights are shared where they can be.
    """
    if not segment.inputs:
        return segment
    module = segment.module.eval()
    tensors = (*module.parameters(), *module.buffers())
    mirror = copy.deepcopy(module, {id(each): each for each in tensors})
    _replace_inside(mirror, sizes=[(each.shape[-2], each.shape[-1]) for each in segment.inputs.values()])
    return replace(segment, module=mirror)


def _replace_inside(module: nn.Module, *, sizes: Sequence[tuple[int, int]]) -> None:
    """Replace what can be, for inputs of `sizes`: a decoder's are its pyramid."""
    for name, child in module.named_children():
        if isinstance(child, SwinTransformerStage):
            blocks = [cast(SwinTransformerBlock, block) for block in child.blocks]
            child.blocks = nn.Sequential(WindowBlocks(blocks))
        elif isinstance(child, UPerNet):
            setattr(module, name, TapsDecoder(child, sizes=sizes))
        else:
            _replace_inside(child, sizes=sizes)
