"""What `uperfuse build` does to the segments of a plan for one kind of machine."""

from .part_graph import AttentionArrays, FloatPart, PartGraph

__all__ = ["AttentionArrays", "FloatPart", "PartGraph"]
