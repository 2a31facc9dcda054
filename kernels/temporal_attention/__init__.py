"""Attention over the dates of every pixel, with one learned query per head."""

from .op import temporal_attention
from .reference import AttentionWeights

__all__ = ["AttentionWeights", "temporal_attention"]
