"""Sum of maps of several resolutions on one grid."""

from .op import project_and_fuse, pyramid_fusion
from .reference import resize

__all__ = ["project_and_fuse", "pyramid_fusion", "resize"]
