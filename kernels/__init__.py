"""Operations of the network, a folder each: the plain-PyTorch reference says what it computes, a kernel does it fast.

On CUDA the operations run their kernels by themselves; `disable` goes back to the references.
"""

from .dispatch import disable

__all__ = [
    "classify",
    "disable",
    "prepare",
    "pyramid_fusion",
    "temporal_aggregate",
    "temporal_attention",
    "window_attention",
]
