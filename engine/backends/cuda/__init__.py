"""Segments on an NVIDIA GPU: TensorRT engines, our kernels between them, one stream, one CUDA graph per shape."""

from .backend import CudaBackend

__all__ = ["CudaBackend"]
