"""Logits at the decoder's size to labels and confidence at the map's size."""

from .op import classify
from .reference import Classified, Resize

__all__ = ["Classified", "Resize", "classify"]
