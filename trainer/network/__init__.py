"""The network, in PyTorch."""

from .network import UPerFuse
from .spec import BACKBONES, BackboneSpec, ImageSpec, NetworkSpec, SeriesSpec, TaskSpec

__all__ = ["BACKBONES", "BackboneSpec", "ImageSpec", "NetworkSpec", "SeriesSpec", "TaskSpec", "UPerFuse"]
