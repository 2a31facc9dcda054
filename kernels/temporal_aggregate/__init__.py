"""Sums of a series' maps over its dates, weighted by an attention."""

from .op import temporal_aggregate

__all__ = ["temporal_aggregate"]
