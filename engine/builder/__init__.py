"""What `uperfuse build` does to the segments of a plan for one kind of machine."""

from .part_graph import AttentionArrays, FloatPart, PartGraph
from .parts import FloatParts, float_parts
from .typed import write_types

__all__ = ["AttentionArrays", "FloatPart", "FloatParts", "PartGraph", "float_parts", "write_types"]
