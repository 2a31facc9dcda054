"""Attention over the dates of every pixel, with one learned query per head."""

from .reference import AttentionWeights, temporal_attention

__all__ = ["AttentionWeights", "temporal_attention"]
