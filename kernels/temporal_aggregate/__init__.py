"""Sum of a series' maps over its dates, weighted by an attention."""

from .reference import temporal_aggregate

__all__ = ["temporal_aggregate"]
