"""Digital numbers of an image to normalised channels."""

from .op import prepare
from .reference import Channels, Prepared

__all__ = ["Channels", "Prepared", "prepare"]
