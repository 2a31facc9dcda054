"""How far a kernel may be from its reference in float64, for every operation and dtype: the one table.

A figure bounds the largest difference over the largest value of the truth, computed in float64 from the inputs as the
dtype holds them. Where they come from: float32 accumulates sums of some hundred products, each rounded at 6e-8; float16
and bfloat16 round the result once (4.9e-4 and 3.9e-3 at most), gradients of gradients of sums some times more.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["TOLERANCES", "assert_near"]

TOLERANCES: dict[tuple[str, torch.dtype], float] = {
    # logits this close, of the largest one, may change places: a mean of four or nine, rounded four times
    ("classify", torch.float32): 5e-7,
    ("classify", torch.float16): 5e-7,
    ("classify", torch.bfloat16): 5e-7,
    # two differences and a quotient; the largest of the truth is about ten times its typical value
    ("prepare", torch.float32): 2e-7,
    ("prepare", torch.float16): 1e-3,
    ("prepare", torch.bfloat16): 8e-3,
    # sums of up to 1024 products (7e-7 in float32); as three of TF32 each, they lose as much
    ("pyramid_fusion", torch.float32): 2e-6,
    ("pyramid_fusion", torch.float16): 1e-3,
    ("pyramid_fusion", torch.bfloat16): 8e-3,
    ("pyramid_fusion_backward", torch.float32): 2e-6,
    ("pyramid_fusion_backward", torch.float16): 1e-3,
    ("pyramid_fusion_backward", torch.bfloat16): 8e-3,
    ("temporal_aggregate", torch.float32): 1e-6,
    ("temporal_aggregate", torch.float16): 1e-3,
    ("temporal_aggregate", torch.bfloat16): 8e-3,
    ("temporal_aggregate_backward", torch.float32): 1e-6,
    ("temporal_aggregate_backward", torch.float16): 1e-3,
    ("temporal_aggregate_backward", torch.bfloat16): 8e-3,
    # sums over channels, dates and channels again; the weights between them are rounded to the dtype
    ("temporal_attention", torch.float32): 2e-6,
    ("temporal_attention", torch.float16): 1e-3,
    ("temporal_attention", torch.bfloat16): 8e-3,
    ("temporal_attention_backward", torch.float32): 4e-6,
    ("temporal_attention_backward", torch.float16): 2e-3,
    ("temporal_attention_backward", torch.bfloat16): 1.6e-2,
    ("window_attention", torch.float32): 1e-6,
    ("window_attention", torch.float16): 1e-3,
    ("window_attention", torch.bfloat16): 8e-3,
    # plain PyTorch rounds weights and products to the dtype on the way
    ("window_attention_backward", torch.float32): 1e-6,
    ("window_attention_backward", torch.float16): 4e-3,
    ("window_attention_backward", torch.bfloat16): 2e-2,
}


def assert_near(got: Tensor, truth: Tensor, *, operation: str, what: str = "") -> None:
    """Compare with the truth in float64, within the table's tolerance for the dtype of `got`."""
    got, truth = got.detach(), truth.detach()
    assert got.shape == truth.shape, f"{operation} {what}: {list(got.shape)}, expected {list(truth.shape)}"
    assert bool(torch.isfinite(got).all()), f"{operation} {what}: {int((~torch.isfinite(got)).sum())} not finite"
    largest = float(truth.abs().max()) if truth.numel() else 0.0
    error = float((got.double() - truth).abs().max()) if truth.numel() else 0.0
    bound = TOLERANCES[operation, got.dtype] * largest
    assert error <= bound, f"{operation} {what} {got.dtype}: off by {error:.3g} of {largest:.3g}, allowed {bound:.3g}"
