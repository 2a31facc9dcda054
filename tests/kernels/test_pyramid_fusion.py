"""Sums of resized maps: the references against the definition, the kernels against the references."""

from pathlib import Path

import pytest
import torch

from tests.conftest import randomise, small_spec
from uperfuse.kernels import disable
from uperfuse.kernels.linear import resize_weights
from uperfuse.kernels.pyramid_fusion import project_and_fuse, pyramid_fusion, reference, resize
from uperfuse.kernels.pyramid_fusion.reference import naive
from uperfuse.trainer.network import UPerFuse

from .registration import assert_registered
from .tolerances import assert_near
from .traffic import assert_in_readme, measure, measure_unfused

# bilinear weights of the two ways differ in their last bits
TOLERANCE = {torch.float64: 1e-14, torch.float32: 2e-6}
DTYPES = {torch.float32: "fp32", torch.float16: "fp16", torch.bfloat16: "bf16"}

# size of the result, channels, channels of the base where there is one, and maps: samples and size each
CASES = {
    "every kind of map": ((9, 19), 24, 20, [(1, 9, 19), (2, 3, 5), (2, 21, 7), (1, 1, 1), (2, 1, 1)]),
    "coarse levels": ((16, 16), 32, 48, [(2, 10, 10), (1, 8, 8), (2, 2, 2)]),
    "several steps along channels": ((3, 5), 80, 144, [(2, 1, 2)]),
    "a product alone": ((7, 13), 16, 16, []),
    "a sum alone": ((5, 17), 16, None, [(2, 5, 17), (1, 13, 29)]),
    "more maps than a launch takes": ((2, 3), 8, 8, [(2, 2, 3)] * 4 + [(1, 3, 2)] * 6),
}


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


def test_projection_and_sum_equal_the_definition():
    (base, weight, bias, *maps), size = _leaves("every kind of map", dtype=torch.float64)
    want = naive(maps, size=size, base=base, weight=weight, bias=bias)
    torch.testing.assert_close(project_and_fuse(base, weight=weight, bias=bias, maps=maps), want)


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


def test_formula_of_the_gradient_equals_autograd():
    torch.manual_seed(0)
    for batch in (1, 2):
        for size in ((3, 5), (9, 16), (1, 1)):
            each = torch.randn(batch, 3, *size, dtype=torch.float64, requires_grad=True)
            gradient = torch.randn(2, 3, 6, 7, dtype=torch.float64)
            (want,) = torch.autograd.grad(resize(each, size=(6, 7)).expand(2, -1, -1, -1), each, gradient)
            torch.testing.assert_close(reference.backward(gradient, batch=batch, size=size), want)


def _leaves(name: str, *, dtype: torch.dtype) -> tuple[list[torch.Tensor], tuple[int, int]]:
    """Base, weight, bias (where there are any) and maps, that need gradients, and the size; maps lie channels last."""
    size, channels, base_channels, maps = CASES[name]
    torch.manual_seed(1)
    leaves = []
    if base_channels is not None:
        leaves.append(torch.randn(2, *size, base_channels).permute(0, 3, 1, 2))
        leaves.append(torch.randn(channels, base_channels, 1, 1) * base_channels**-0.5)
        leaves.append(torch.randn(channels))
    leaves += [torch.randn(batch, Y, X, channels).permute(0, 3, 1, 2) for batch, Y, X in maps]
    return [leaf.to(dtype).requires_grad_() for leaf in leaves], size


def _fuse(name: str, leaves: list[torch.Tensor], size: tuple[int, int]) -> torch.Tensor:
    if CASES[name][2] is None:
        return pyramid_fusion(leaves, size=size)
    base, weight, bias, *maps = leaves
    return project_and_fuse(base, weight=weight, bias=bias, maps=maps)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", CASES)
def test_kernel_and_its_gradients_equal_the_reference(kernels, name, dtype):
    leaves, size = _leaves(name, dtype=dtype)
    exact = [leaf.detach().double().requires_grad_() for leaf in leaves]
    got = _fuse(name, leaves, size)
    with disable():
        truth = _fuse(name, exact, size)
    assert got.dtype == dtype
    assert_near(got, truth, operation="pyramid_fusion")
    gradient = torch.randn_like(got)
    ours = torch.autograd.grad(got, leaves, gradient)
    for each, want in zip(ours, torch.autograd.grad(truth, exact, gradient.double()), strict=True):
        assert each.dtype == dtype
        assert_near(each, want, operation="pyramid_fusion_backward", what=str(list(want.shape)))


@pytest.mark.parametrize(
    ("source", "size"),
    [((1, 10), (1, 128)), ((15, 1), (192, 1)), ((1, 16), (3, 128)), ((7, 13), (24, 24)), ((50, 2), (3, 2))],
    ids=str,
)
def test_kernel_samples_any_ratio(kernels, source, size):
    torch.manual_seed(2)
    maps = [torch.randn(1, 16, *source), torch.randn(1, 16, *size)]
    truth = naive([each.double() for each in maps], size=size)
    assert_near(pyramid_fusion(maps, size=size), truth, operation="pyramid_fusion")


def test_autocast_reaches_the_kernel_as_it_reaches_a_convolution(kernels):
    (base, weight, bias, *maps), _ = _leaves("coarse levels", dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        got = project_and_fuse(base, weight=weight, bias=bias, maps=maps)
    with disable():
        truth = project_and_fuse(base, weight=weight, bias=bias, maps=maps)
    assert got.dtype == torch.bfloat16
    torch.testing.assert_close(got.float(), truth, rtol=0, atol=0.02 * float(truth.detach().abs().max()))
    assert torch.autograd.grad(got.float().sum(), weight)[0].dtype == torch.float32


@pytest.mark.parametrize("interpreted", [False, True], ids=["reference", "kernel"])
def test_op_is_registered_rightly(request, interpreted):
    if interpreted:
        request.getfixturevalue("kernels")
    torch.manual_seed(3)
    base, weight, bias = torch.randn(2, 3, 5, 8), torch.randn(16, 8), torch.randn(16)
    maps = [torch.randn(2, 3, 5, 16), torch.randn(1, 2, 3, 16)]
    for leaf in (base, weight, bias, *maps):
        leaf.requires_grad_()
    assert_registered(torch.ops.uperfuse.pyramid_fusion.default, maps, base, weight, bias, [3, 5])
    assert_registered(torch.ops.uperfuse.pyramid_fusion.default, maps, None, None, None, [3, 5])
    assert_registered(torch.ops.uperfuse.pyramid_fusion_backward.default, maps[0].detach(), 1, 2, 3)


def test_compiles_without_graph_breaks(kernels):
    leaves, size = _leaves("coarse levels", dtype=torch.float32)
    compiled = torch.compile(
        lambda *leaves: 2 * _fuse("coarse levels", leaves, size), fullgraph=True, backend="aot_eager"
    )
    ours, theirs = compiled(*leaves), 2 * _fuse("coarse levels", leaves, size)
    torch.testing.assert_close(ours, theirs)
    ours, theirs = (torch.autograd.grad(fused.square().sum(), leaves) for fused in (ours, theirs))
    torch.testing.assert_close(ours, theirs)


def test_network_gives_the_same_logits_and_gradients(kernels):
    """Two images and the stand-ins of the series: of all kernels this one alone is at work."""
    network = UPerFuse(small_spec("all")).eval()
    randomise(network)
    torch.manual_seed(4)
    inputs = {"AERIAL_RGBI": torch.randn(2, 3, 64, 64), "DEM_ELEV": torch.randn(2, 2, 32, 32)}
    present = {"DEM_ELEV": torch.tensor([True, False])}

    def run() -> tuple[list[torch.Tensor], list[torch.Tensor | None]]:
        logits = list(network(inputs, present=present).values())
        loss = sum((each * each.detach().sign()).mean() for each in logits)
        return logits, torch.autograd.grad(loss, list(network.parameters()), allow_unused=True)

    with measure() as launches:
        ours = run()
    assert {(launch.operation, launch.kernel) for launch in launches} == {
        ("pyramid_fusion", "pyramid_fusion"),
        ("pyramid_fusion", "pyramid_fusion_backward"),
    }
    with disable():
        theirs = run()
    torch.testing.assert_close(ours[0], theirs[0], rtol=1e-4, atol=1e-5)
    for (name, _), got, want in zip(network.named_parameters(), ours[1], theirs[1], strict=True):
        assert (got is None) == (want is None), name
        if want is not None:
            torch.testing.assert_close(got, want, rtol=1e-3, atol=1e-4 * float(want.abs().max()) + 1e-7, msg=name)


# Swin-B's levels, and sides of the maps that join the aerial image's at 512 px, per level
CHANNELS = (128, 256, 512, 1024)
SIDES = {
    "elevation": (128, 64, 32, 16),
    "historical": (64, 32, 16, 8),
    "SPOT": (16, 8, 4, 2),
    **dict.fromkeys(("Sentinel-2", "Sentinel-1 ascending", "Sentinel-1 descending"), (10,) * 4),
}
NETWORKS = {"LC-F": list(SIDES)[3:], "LC-L": ["elevation", *list(SIDES)[2:]], "all seven": list(SIDES)}
BLOCK = {"PY": 8, "PX": 16, "N": 64}


def _sides(network: str, *, tile_px: int, level: int) -> tuple[int, list[int]]:
    """Side of the base's map and of the others'."""
    return tile_px // 4 >> level, [SIDES[name][level] * tile_px // 512 for name in NETWORKS[network]]


def _touched(source: int, *, size: int, block: int) -> int:
    """Source places that blocks of output places touch along one axis, added up over the blocks."""
    weights = resize_weights(source, size, like=torch.zeros((), dtype=torch.float64))
    return sum(int((part > 0).any(0).sum()) for part in weights.split(block))


def _expected(
    size: tuple[int, int], others: list[tuple[int, int]], *, channels: int, base_channels: int, item_bytes: int
) -> dict[str, int]:
    """Bytes that a launch moves, by kind of array: every program reads what its block touches, once."""
    Y, X = size
    blocks, shares = -(-Y // BLOCK["PY"]) * -(-X // BLOCK["PX"]), -(-channels // BLOCK["N"])
    sampled = sum(
        Y * X if (rows, columns) == size else _touched(rows, size=Y, block=8) * _touched(columns, size=X, block=16)
        for rows, columns in others
    )
    return {
        "base": Y * X * base_channels * shares * item_bytes,
        "weight": channels * base_channels * blocks * item_bytes,
        "bias": channels * blocks * 4,
        "maps": sampled * channels * item_bytes,
        "out": Y * X * channels * item_bytes,
    }


@pytest.mark.parametrize(
    ("network", "tile_px", "level", "channels", "dtype"),
    [
        ("all seven", 512, 0, 64, torch.bfloat16),
        ("all seven", 512, 1, 64, torch.bfloat16),
        ("LC-L", 768, 2, 64, torch.bfloat16),
        ("all seven", 512, 3, 128, torch.float16),
        ("LC-F", 768, 0, 64, torch.bfloat16),
        ("all seven", 768, 3, 64, torch.float32),
    ],
    ids=str,
)
def test_counted_bytes_are_those_expected(kernels, network, tile_px, level, channels, dtype):
    """Levels with fewer channels, of the finest one a strip: more channels and rows are more programs of the same."""
    side, sides = _sides(network, tile_px=tile_px, level=level)
    size, others = (side, side), [(each, each) for each in sides]
    if level == 0:
        size, others = (BLOCK["PY"], side), [(BLOCK["PY"] if each == side else 1, each) for each in sides]
    base, weight = torch.zeros(1, 96, *size, dtype=dtype), torch.zeros(channels, 96, 1, 1, dtype=dtype)
    maps = [torch.zeros(1, channels, *other, dtype=dtype) for other in others]
    with measure() as launches:
        project_and_fuse(base, weight=weight, bias=torch.zeros(channels), maps=maps)
    (launch,) = launches
    moved = dict.fromkeys(("base", "weight", "bias", "maps", "out"), 0)
    for name, count in (launch.loaded + launch.stored).items():
        moved[name if name in moved else "maps"] += count
    assert moved == _expected(size, others, channels=channels, base_channels=96, item_bytes=dtype.itemsize)


def _bytes(network: str, *, tile_px: int, dtype: torch.dtype) -> tuple[int, int, int, int]:
    """Of all levels: moved with the product's operands read once, compulsory, unfused, and operands read again."""
    moved = compulsory = unfused_moved = again = 0
    for level, channels in enumerate(CHANNELS):
        side, sides = _sides(network, tile_px=tile_px, level=level)
        others = [(each, each) for each in sides]
        parts = _expected((side, side), others, channels=channels, base_channels=channels, item_bytes=dtype.itemsize)
        with torch.device("meta"):
            base, *maps = (torch.empty(1, channels, *each, dtype=dtype) for each in ((side, side), *others))
            weight, bias = torch.empty(channels, channels, 1, 1, dtype=dtype), torch.empty(channels, dtype=dtype)
        once = base.nbytes + weight.nbytes
        moved += once + parts["bias"] + parts["maps"] + parts["out"]
        compulsory += once + channels * 4 + sum(each.nbytes for each in maps) + parts["out"]
        again += parts["base"] + parts["weight"] - once
        with measure_unfused() as unfused:
            reference.project_and_fuse(base, weight=weight, bias=bias, maps=maps)
        unfused_moved += unfused.moved
    return moved, compulsory, unfused_moved, again


def test_moves_few_bytes_twice():
    """All levels of a tile. Re-reads of the product's operands stand apart: the cache of the board serves them."""
    rows, operands = [], []
    for network in NETWORKS:
        for tile_px in (512, 768):
            for dtype in (torch.float32, torch.bfloat16):
                moved, compulsory, unfused, again = _bytes(network, tile_px=tile_px, dtype=dtype)
                assert moved <= 1.15 * compulsory
                what = f"{network}, {tile_px} px, {DTYPES[dtype]}"
                rows.append((what, moved, compulsory, unfused))
                # whatever joins the base, its product stays the same
                operands.append(f"| {tile_px} px, {DTYPES[dtype]} | {again / 1e6:.2f} |")
    assert_in_readme("pyramid_fusion", rows)
    readme = (Path(reference.__file__).parent / "README.md").read_text(encoding="utf-8")
    missing = [row for row in operands if row not in readme]
    assert not missing, "README lacks rows of operands read again:\n" + "\n".join(operands)


@pytest.mark.parametrize(
    ("maps", "dtype", "error", "says"),
    [
        ([(2, 5, 3, 3)], torch.float32, ValueError, r"map is \[2, 5, 3, 3\], expected \[1 or 2, 4,"),
        ([(3, 4, 3, 3)], torch.float32, ValueError, r"map is \[3, 4, 3, 3\], expected \[1 or 2, 4,"),
        ([(2, 4, 3, 3)], torch.float64, TypeError, "convert it"),
        ([(2, 4, 3, 3)], torch.float16, TypeError, "map0 is torch.float16, expected fp32"),
    ],
    ids=str,
)
def test_refuses_what_does_not_belong_together(kernels, maps, dtype, error, says):
    base, weight = torch.zeros(2, 6, 2, 2), torch.zeros(4, 6, 1, 1)
    with pytest.raises(error, match=says):
        project_and_fuse(base, weight=weight, maps=[torch.zeros(each, dtype=dtype) for each in maps])


def test_refuses_weights_of_another_base(kernels):
    with pytest.raises(ValueError, match=r"weight is \[4, 7, 1, 1\], expected \[C, 6, 1, 1\]"):
        project_and_fuse(torch.zeros(2, 6, 2, 2), weight=torch.zeros(4, 7, 1, 1))
