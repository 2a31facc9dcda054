"""Sums of resized maps against the definition, and the law that lets the network use them."""

import pytest
import torch

from uperfuse.kernels.pyramid_fusion import pyramid_fusion, resize
from uperfuse.kernels.pyramid_fusion.reference import naive

# bilinear weights of the two ways differ in their last bits
TOLERANCE = {torch.float64: 1e-14, torch.float32: 2e-6}


@pytest.mark.parametrize("dtype", list(TOLERANCE), ids=str)
@pytest.mark.parametrize(
    ("sizes", "size"),
    [([(8, 6), (5, 5), (1, 1)], (8, 6)), ([(3, 7), (16, 4)], (9, 5)), ([(1, 4)], (3, 3)), ([(1, 1)], (2, 3))],
    ids=str,
)
def test_equals_the_definition(sizes, size, dtype):
    torch.manual_seed(0)
    maps = [torch.randn(2, 3, *each, dtype=torch.float64) for each in sizes]
    want = naive(maps, size=size)
    got = pyramid_fusion([each.to(dtype) for each in maps], size=size)
    assert got.dtype == dtype
    assert got.shape == want.shape
    assert float((got - want).abs().max() / want.abs().max()) < TOLERANCE[dtype]


def test_one_sample_serves_a_batch():
    torch.manual_seed(0)
    maps, single = torch.randn(3, 2, 4, 6), torch.randn(1, 2, 1, 1)
    fused = pyramid_fusion([maps, single], size=(4, 6))
    torch.testing.assert_close(fused, maps + single)


def test_projection_commutes_with_resizing_and_concatenation():
    torch.manual_seed(0)
    maps = [torch.randn(2, channels, *size, dtype=torch.float64) for channels, size in [(4, (8, 6)), (3, (5, 5))]]
    weight, bias = torch.randn(7, 7, 1, 1, dtype=torch.float64), torch.randn(7, dtype=torch.float64)
    joined = torch.cat([resize(each, size=(8, 6)) for each in maps], 1)
    want = torch.nn.functional.conv2d(joined, weight, bias)
    parts = [
        torch.nn.functional.conv2d(maps[0], weight[:, :4], bias),
        torch.nn.functional.conv2d(maps[1], weight[:, 4:]),
    ]
    torch.testing.assert_close(pyramid_fusion(parts, size=(8, 6)), want)
