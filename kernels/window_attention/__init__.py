"""Attention within the shifted windows of a Swin transformer."""

from .op import admits, window_attention

__all__ = ["admits", "window_attention"]
