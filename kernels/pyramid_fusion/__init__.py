"""Sum of maps of several resolutions on one grid."""

from .reference import pyramid_fusion, resize

__all__ = ["pyramid_fusion", "resize"]
