"""Weighted sums over dates against the loop over channels and dates."""

import pytest
import torch

from uperfuse.kernels.temporal_aggregate import temporal_aggregate
from uperfuse.kernels.temporal_aggregate.reference import naive

# a sum of at most 61 products
TOLERANCE = {torch.float64: 1e-14, torch.float32: 1e-6}


@pytest.mark.parametrize("dtype", list(TOLERANCE), ids=str)
@pytest.mark.parametrize("shape", [(1, 1, 4, 3, 2, 2), (2, 61, 32, 2, 5, 16), (3, 7, 6, 4, 3, 3)], ids=str)
def test_equals_the_loop(shape, dtype):
    B, T, C, Y, X, H = shape
    torch.manual_seed(0)
    features = torch.randn(B, T, C, Y, X, dtype=torch.float64)
    attention = torch.rand(B, H, T, Y, X, dtype=torch.float64)
    want = naive(features, attention)
    # not contiguous, as the attention comes in practice
    turned = attention.to(dtype).permute(0, 3, 4, 2, 1).contiguous().permute(0, 4, 3, 1, 2)
    got = temporal_aggregate(features.to(dtype), turned)
    assert got.dtype == dtype
    assert float((got - want).abs().max() / want.abs().max()) < TOLERANCE[dtype]


def test_attention_of_another_size_is_resized():
    torch.manual_seed(0)
    features = torch.randn(1, 3, 4, 4, 6)
    attention = torch.rand(1, 2, 3, 2, 3)
    full = torch.nn.functional.interpolate(attention[0], size=(4, 6), mode="bilinear")
    torch.testing.assert_close(temporal_aggregate(features, attention), naive(features, full[None]))


def test_no_date_is_zero():
    assert torch.equal(
        temporal_aggregate(torch.ones(2, 0, 4, 3, 5), torch.ones(2, 2, 0, 3, 5)), torch.zeros(2, 4, 3, 5)
    )


def test_gradients_equal_those_of_the_loop():
    torch.manual_seed(0)
    leaves = [torch.randn(2, 5, 4, 3, 2, dtype=torch.float64), torch.rand(2, 2, 5, 3, 2, dtype=torch.float64)]
    for leaf in leaves:
        leaf.requires_grad_()
    ours, truth = (torch.autograd.grad(f(*leaves).square().sum(), leaves) for f in (temporal_aggregate, naive))
    for got, want in zip(ours, truth, strict=True):
        torch.testing.assert_close(got, want)
