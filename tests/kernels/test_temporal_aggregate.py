"""Weighted sums over dates: the reference against a loop, the kernels against the reference."""

import pytest
import torch

from uperfuse.kernels.launch import dtype_name
from uperfuse.kernels.temporal_aggregate import reference, temporal_aggregate
from uperfuse.kernels.temporal_aggregate.reference import naive

from .registration import assert_registered
from .tolerances import assert_near
from .traffic import assert_in_readme, measure, measure_unfused

# a sum of at most 61 products
TOLERANCE = {torch.float64: 1e-14, torch.float32: 1e-6}
DTYPES = (torch.float32, torch.float16, torch.bfloat16)

# maps (channels and size each) and the attention's dates, heads and size
CASES = {
    "one date": ([(16, (2, 3))], 1, 16, (2, 3)),
    "61 dates": ([(32, (3, 5)), (16, (3, 5)), (16, (3, 5))], 61, 16, (3, 5)),
    "more maps than a launch takes": ([(8, (1, 3))] * 5, 9, 2, (1, 3)),
    "other sizes": ([(16, (5, 6)), (32, (2, 3)), (16, (1, 7))], 5, 4, (2, 3)),
}


@pytest.mark.parametrize("dtype", list(TOLERANCE), ids=str)
@pytest.mark.parametrize("shape", [(1, 1, 4, 3, 2, 2), (2, 61, 32, 2, 5, 16), (3, 7, 6, 4, 3, 3)], ids=str)
def test_reference_equals_the_loop(shape, dtype):
    B, T, C, Y, X, H = shape
    torch.manual_seed(0)
    features = torch.randn(B, T, C, Y, X, dtype=torch.float64)
    attention = torch.rand(B, H, T, Y, X, dtype=torch.float64)
    want = naive(features, attention)
    # not contiguous, as the attention comes in practice
    turned = attention.to(dtype).permute(0, 3, 4, 2, 1).contiguous().permute(0, 4, 3, 1, 2)
    (got,) = temporal_aggregate([features.to(dtype)], turned)
    assert got.dtype == dtype
    assert float((got - want).abs().max() / want.abs().max()) < TOLERANCE[dtype]


def test_attention_of_another_size_is_resized():
    torch.manual_seed(0)
    features = torch.randn(1, 3, 4, 4, 6)
    attention = torch.rand(1, 2, 3, 2, 3)
    full = torch.nn.functional.interpolate(attention[0], size=(4, 6), mode="bilinear")
    torch.testing.assert_close(temporal_aggregate([features], attention), [naive(features, full[None])])


def test_no_date_is_zero():
    (got,) = temporal_aggregate([torch.ones(2, 0, 4, 3, 5)], torch.ones(2, 2, 0, 3, 5))
    assert torch.equal(got, torch.zeros(2, 4, 3, 5))


def test_no_date_is_zero_in_the_kernel(kernels):
    (got,) = temporal_aggregate([torch.ones(2, 0, 4, 3, 5)], torch.ones(2, 2, 0, 3, 5))
    assert torch.equal(got, torch.zeros(2, 4, 3, 5))


def test_gradients_equal_those_of_the_loop():
    torch.manual_seed(0)
    leaves = [torch.randn(2, 5, 4, 3, 2, dtype=torch.float64), torch.rand(2, 2, 5, 3, 2, dtype=torch.float64)]
    for leaf in leaves:
        leaf.requires_grad_()

    def ours(features, attention):
        return temporal_aggregate([features], attention)[0]

    both = (torch.autograd.grad(f(*leaves).square().sum(), leaves) for f in (ours, naive))
    for got, want in zip(*both, strict=True):
        torch.testing.assert_close(got, want)


def _case(name: str, *, dtype: torch.dtype):
    """Maps that lie channels last, an attention with masked dates, and both in float64; all of them leaves."""
    maps, T, H, size = CASES[name]
    torch.manual_seed(1)
    attention = torch.rand(2, *size, H, T).permute(0, 3, 4, 1, 2)
    attention[1, :, T // 2 :] = 0
    leaves = [torch.randn(2, T, *shape, C).permute(0, 1, 4, 2, 3) for C, shape in maps] + [attention]
    leaves = [leaf.to(dtype).requires_grad_() for leaf in leaves]
    return leaves, [leaf.detach().double().requires_grad_() for leaf in leaves]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", CASES)
def test_kernel_equals_the_reference(kernels, name, dtype):
    leaves, exact = _case(name, dtype=dtype)
    got = temporal_aggregate(leaves[:-1], leaves[-1])
    truth = reference.temporal_aggregate(exact[:-1], exact[-1])
    for ours, theirs in zip(got, truth, strict=True):
        assert ours.dtype == dtype
        assert_near(ours, theirs, operation="temporal_aggregate")


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", CASES)
def test_gradients_of_the_kernel_equal_the_references(kernels, name, dtype):
    leaves, exact = _case(name, dtype=dtype)
    weights = [torch.randn(2, C, *shape).to(dtype) for C, shape in CASES[name][0]]
    got = torch.autograd.grad(temporal_aggregate(leaves[:-1], leaves[-1]), leaves, weights)
    truth = reference.temporal_aggregate(exact[:-1], exact[-1])
    truth = torch.autograd.grad(truth, exact, [weight.double() for weight in weights])
    for ours, theirs in zip(got, truth, strict=True):
        assert_near(ours, theirs, operation="temporal_aggregate_backward")


@pytest.mark.parametrize("interpreted", [False, True], ids=["reference", "kernel"])
def test_op_is_registered_rightly(request, interpreted):
    if interpreted:
        request.getfixturevalue("kernels")
    leaves, _ = _case("other sizes", dtype=torch.float32)
    rows = [leaf.detach().movedim(2, -1).contiguous().requires_grad_() for leaf in leaves[:-1]]
    attention = leaves[-1].detach().movedim(1, -1).contiguous().requires_grad_()
    assert_registered(torch.ops.uperfuse.temporal_aggregate.default, rows, attention)
    same = torch.randn(2, 5, 2, 3, 16)
    sums = torch.randn(2, 2, 3, 16)
    assert_registered(torch.ops.uperfuse.temporal_aggregate_backward.default, [same], attention.detach(), [sums])


def test_compiles_without_graph_breaks(kernels):
    leaves, _ = _case("61 dates", dtype=torch.float32)
    compiled = torch.compile(
        lambda *all_: [each * 2 for each in temporal_aggregate(all_[:-1], all_[-1])],
        fullgraph=True,
        backend="aot_eager",
    )
    eager = temporal_aggregate(leaves[:-1], leaves[-1])
    for ours, theirs in zip(compiled(*leaves), eager, strict=True):
        torch.testing.assert_close(ours, theirs * 2)
    ours, theirs = (
        torch.autograd.grad(sum(each.square().sum() for each in sums), leaves)
        for sums in (compiled(*leaves), [each * 2 for each in eager])
    )
    torch.testing.assert_close(ours, theirs)


def test_moves_each_byte_once(kernels):
    """The skip maps of a series of 61 dates beside an aerial image, as LC-F and LC-L have it."""
    rows = []
    for side, tile_px in ((10, 512), (15, 768)):
        for dtype in (torch.float32, torch.bfloat16):
            maps = [torch.zeros(1, 61, side, side, C, dtype=dtype).movedim(4, 2) for C in (128, 64, 64)]
            attention = torch.zeros(1, 61, side, side, 16, dtype=dtype).movedim(4, 1)
            with measure() as launches:
                temporal_aggregate(maps, attention)
            with measure_unfused() as unfused:
                reference.temporal_aggregate(maps, attention)
            (launch,) = launches
            assert launch.ratio <= 1.15
            rows.append((f"{tile_px} px, {dtype_name(attention)}", launch.moved, launch.compulsory, unfused.moved))
    assert_in_readme("temporal_aggregate", rows)


@pytest.mark.parametrize(
    ("maps", "attention", "error", "says"),
    [
        (torch.zeros(1, 3, 5, 2, 2), torch.zeros(1, 2, 3, 2, 2), ValueError, "a multiple of 2"),
        (torch.zeros(1, 4, 6, 2, 2), torch.zeros(1, 2, 3, 2, 2), ValueError, r"expected \[1, 3,"),
        (torch.zeros(1, 3, 4, 2, 2).half(), torch.zeros(1, 2, 3, 2, 2), TypeError, "expected the attention's"),
    ],
)
def test_refuses_what_does_not_belong_together(maps, attention, error, says):
    with pytest.raises(error, match=says):
        temporal_aggregate([maps], attention)
