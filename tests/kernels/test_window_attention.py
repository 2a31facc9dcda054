"""Attention in shifted windows: the reference against a loop and timm, the kernel against the reference."""

import pytest
import torch
from timm.models.swin_transformer import SwinTransformerBlock

from uperfuse.kernels import disable
from uperfuse.kernels.window_attention import admits, reference, window_attention
from uperfuse.kernels.window_attention.reference import HEAD_WIDTH, naive
from uperfuse.trainer.network import BackboneSpec, ImageSpec
from uperfuse.trainer.network.images import ImageEncoder

from .registration import assert_registered
from .tolerances import assert_near
from .traffic import assert_in_readme, measure, measure_unfused

DTYPES = (torch.float32, torch.float16, torch.bfloat16)

# batch, rows, columns, heads; window; shift
CASES = {
    "windows of 7": ((2, 9, 16, 2), (7, 7), (3, 3)),
    "windows of 12": ((1, 25, 14, 1), (12, 12), (6, 6)),
    "windows divide the map": ((1, 14, 7, 1), (7, 7), (3, 0)),
    "no shift": ((1, 13, 5, 3), (12, 12), (0, 0)),
    "a map smaller than its window, shifted": ((2, 2, 5, 1), (12, 12), (6, 6)),
    "one token": ((1, 1, 1, 1), (7, 7), (0, 0)),
    "other windows": ((1, 10, 7, 2), (9, 8), (4, 1)),
    "windows of a single row": ((1, 3, 11, 1), (1, 5), (0, 2)),
}


def _inputs(name: str, *, dtype: torch.dtype, width: int = HEAD_WIDTH):
    """Arguments as leaves, the same in float64, and the options; scores are large enough to tell tokens apart."""
    (B, Y, X, H), window, shift = CASES[name]
    torch.manual_seed(1)
    entries = (2 * window[0] - 1) * (2 * window[1] - 1)
    drawn = torch.randn(B, Y, X, 3 * H * width), torch.randn(entries, H), torch.randn(3 * H * width)
    leaves = [each.to(dtype).requires_grad_() for each in drawn]
    exact = [each.detach().double().requires_grad_() for each in leaves]
    return leaves, exact, {"heads": H, "window": window, "shift": shift}


@pytest.mark.parametrize("name", ["windows divide the map", "a map smaller than its window, shifted", "other windows"])
def test_reference_equals_the_loop(name):
    _, exact, options = _inputs(name, dtype=torch.float64, width=3)
    with torch.no_grad():
        torch.testing.assert_close(window_attention(*exact, **options), naive(*exact, **options))


@pytest.mark.parametrize("name", CASES)
def test_reference_equals_timm(name):
    (B, Y, X, H), window, shift = CASES[name]
    torch.manual_seed(2)
    block = SwinTransformerBlock(
        H * HEAD_WIDTH, (Y, X), num_heads=H, window_size=window, shift_size=shift, always_partition=True
    ).double()
    attention = block.attn
    attention.proj = torch.nn.Identity()
    for parameter in attention.parameters():
        torch.nn.init.normal_(parameter)
    tokens = torch.randn(B, Y, X, H * HEAD_WIDTH, dtype=torch.float64, requires_grad=True)
    table, bias = attention.relative_position_bias_table, attention.qkv.bias
    ours = window_attention(attention.qkv(tokens), table, bias, heads=H, window=window, shift=shift)
    theirs = block._attn(tokens)
    torch.testing.assert_close(ours, theirs)
    weight = torch.randn_like(theirs)
    leaves = [tokens, attention.qkv.weight, bias, table]
    for got, want in zip(*(torch.autograd.grad(out, leaves, weight) for out in (ours, theirs)), strict=True):
        torch.testing.assert_close(got, want)


@pytest.mark.parametrize("name", CASES)
def test_formulas_of_the_gradients_equal_autograd(name):
    _, exact, options = _inputs(name, dtype=torch.float64)
    out = reference.window_attention(*exact, **options)
    weight = torch.randn_like(out)
    truth = torch.autograd.grad(out, exact, weight, allow_unused=True)
    got = reference.backward(*(each.detach() for each in exact), weight, **options)
    for ours, theirs, leaf in zip(got, truth, exact, strict=True):
        # a map without padding does not use it
        torch.testing.assert_close(ours, torch.zeros_like(leaf) if theirs is None else theirs)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", CASES)
def test_kernel_equals_the_reference(kernels, name, dtype):
    leaves, exact, options = _inputs(name, dtype=dtype)
    with torch.no_grad():
        got = window_attention(*leaves, **options)
        assert got.dtype == dtype
        assert_near(got, reference.window_attention(*exact, **options), operation="window_attention", what=name)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", ["windows of 7", "windows of 12", "other windows"])
def test_gradients_equal_those_of_the_reference(kernels, name, dtype):
    leaves, exact, options = _inputs(name, dtype=dtype)
    got, truth = window_attention(*leaves, **options), reference.window_attention(*exact, **options)
    weight = torch.randn(got.shape).to(dtype)
    ours = torch.autograd.grad(got, leaves, weight)
    theirs = torch.autograd.grad(truth, exact, weight.double())
    for mine, right in zip(ours, theirs, strict=True):
        assert mine.dtype == dtype
        assert_near(mine, right, operation="window_attention_backward", what=name)


def test_parameters_may_be_float32(kernels):
    leaves, _, options = _inputs("windows of 7", dtype=torch.float32)
    # as autocast leaves them: a result in 16 bits, parameters as they are; the map lies otherwise in memory
    qkv = leaves[0].detach().bfloat16().transpose(1, 2).contiguous().transpose(1, 2).requires_grad_()
    leaves = [qkv, *leaves[1:]]
    got = window_attention(*leaves, **options)
    truth = reference.window_attention(*(each.detach().double() for each in leaves), **options)
    assert_near(got, truth, operation="window_attention")
    gradients = torch.autograd.grad(got.sum(), leaves)
    assert [each.dtype for each in gradients] == [torch.bfloat16, torch.float32, torch.float32]


def test_large_scores_stay_finite(kernels):
    (qkv, table, padding), _, options = _inputs("other windows", dtype=torch.float16)
    with torch.no_grad():
        # powers of two of scores of some hundred are beyond float32
        qkv.mul_(8)
        truth = reference.window_attention(qkv.double(), table.double(), padding.double(), **options)
        assert_near(window_attention(qkv, table, padding, **options), truth, operation="window_attention")


@pytest.mark.parametrize("interpreted", [False, True], ids=["reference", "kernel"])
def test_op_is_registered_rightly(request, interpreted):
    if interpreted:
        request.getfixturevalue("kernels")
    (qkv, table, padding), _, options = _inputs("windows divide the map", dtype=torch.float32)
    arguments = (qkv, table.detach().t().contiguous().requires_grad_(), padding)
    places = (options["window"], options["shift"])
    assert_registered(torch.ops.uperfuse.window_attention.default, *arguments, *places)
    gradient = torch.randn(*qkv.shape[:3], qkv.shape[3] // 3)
    arguments = tuple(each.detach() for each in arguments)
    assert_registered(torch.ops.uperfuse.window_attention_backward.default, *arguments, gradient, *places)


def _encoder(*, dims: tuple[int, ...]) -> ImageEncoder:
    backbone = BackboneSpec("swin", dims, (2, 2, 2, 2), (1, 2, 4, 8), (7, 7, 7, 7))
    torch.manual_seed(3)
    encoder = ImageEncoder(ImageSpec("AERIAL_RGBI", 3, 64, backbone)).eval()
    for parameter in encoder.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return encoder


def _maps_and_gradients(encoder: ImageEncoder) -> tuple[list[torch.Tensor], tuple[torch.Tensor, ...]]:
    torch.manual_seed(4)
    # stages of 17 x 10, 9 x 5, 5 x 3 and 3 x 2, none a multiple of 7
    maps = encoder(torch.randn(1, 3, 68, 40))
    loss = sum((each * torch.randn_like(each)).sum() for each in maps)
    parameters = list(encoder.parameters())
    return maps, torch.autograd.grad(loss, parameters)


def test_encoder_gives_the_same_maps_and_gradients(kernels):
    encoder = _encoder(dims=(32, 64, 128, 256))
    names = list(encoder.state_dict())
    with measure() as launches:
        ours = _maps_and_gradients(encoder)
    assert len(launches) == 8
    with disable():
        theirs = _maps_and_gradients(encoder)
    for got, want in zip((*ours[0], *ours[1]), (*theirs[0], *theirs[1]), strict=True):
        torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-5 * float(want.detach().abs().max()))
    # timm's own names
    assert "seg_model.model.layers_1.blocks.0.attn.relative_position_bias_table" in names


def test_encoder_compiles_without_graph_breaks(kernels):
    block = _encoder(dims=(32, 64, 128, 256)).seg_model.model.layers_0.blocks[1]
    tokens = torch.randn(1, 16, 16, 32)
    with torch.no_grad(), measure() as launches:
        got = torch.compile(block, fullgraph=True, backend="aot_eager")(tokens)
        torch.testing.assert_close(got, block(tokens))
    assert len(launches) == 2


def test_other_heads_and_windows_keep_to_timm(kernels):
    encoder = _encoder(dims=(8, 16, 32, 64))
    with measure() as launches:
        encoder(torch.randn(1, 3, 64, 64))
    assert not launches
    assert admits(head_width=32, window=(12, 12))
    assert not admits(head_width=32, window=(12, 13))


# heads and side of the map in the four stages of Swin-B at a tile of 512 px
STAGES = ((4, 128), (8, 64), (16, 32), (32, 16))
SHIFTED = {"window": (12, 12), "shift": (6, 6)}


def _arguments(H: int, side: int, dtype: torch.dtype) -> tuple[torch.Tensor, ...]:
    qkv = torch.zeros(1, side, side, 3 * H * HEAD_WIDTH, dtype=dtype)
    return qkv, torch.zeros(23**2, H), torch.zeros(qkv.shape[3], dtype=dtype)


def _bytes(H: int, side: int, dtype: torch.dtype) -> tuple[int, int]:
    """Bytes that a launch moves and must move: tokens once, the table's share of a head in every program."""
    windows, whole = -(-side // 12), side // 12
    tokens = 4 * side**2 * H * HEAD_WIDTH * dtype.itemsize
    table = 23**2 * 4 * H
    # a key and a value in every window that is padded, for its 128 tokens and for the other 16
    padding = (windows**2 - whole**2) * 4 * H * HEAD_WIDTH * dtype.itemsize
    return tokens + windows**2 * table + padding, tokens + table + (padding > 0) * 3 * H * HEAD_WIDTH * dtype.itemsize


@pytest.mark.parametrize(
    ("H", "side", "dtype"),
    [(8, 16, torch.bfloat16), (2, 16, torch.float32), (1, 24, torch.bfloat16), (1, 31, torch.bfloat16)],
    ids=str,
)
def test_moves_what_the_rule_says(kernels, H, side, dtype):
    with measure() as launches:
        window_attention(*_arguments(H, side, dtype), heads=H, **SHIFTED)
    (launch,) = launches
    assert (launch.moved, launch.compulsory) == _bytes(H, side, dtype)


def test_moves_what_it_must():
    rows = []
    for tile_px in (512, 768):
        for dtype in (torch.float32, torch.bfloat16):
            for stage, (H, side_at_512) in enumerate(STAGES, start=1):
                side = side_at_512 * tile_px // 512
                moved, compulsory = _bytes(H, side, dtype)
                assert moved <= 1.15 * compulsory
                with measure_unfused() as unfused:
                    reference.window_attention(*_arguments(H, side, dtype), heads=H, **SHIFTED)
                what = f"{tile_px} px, stage {stage}, {'fp32' if dtype == torch.float32 else 'bf16'}"
                rows.append((what, moved, compulsory, unfused.moved))
    assert_in_readme("window_attention", rows)


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        ({"heads": 3}, ValueError, "a multiple of 9"),
        ({"qkv": torch.zeros(1, 0, 3, 192)}, ValueError, "at least 1"),
        ({"window": (7, 6)}, ValueError, r"table is \[169, 2\], expected \[143, 2\]"),
        ({"padding": torch.zeros(64)}, ValueError, "padding is"),
        ({"shift": (3, 7)}, ValueError, "shift by less"),
        ({"shift": (-1, 0)}, ValueError, "shift by less"),
    ],
)
def test_refuses_what_does_not_belong_together(change, error, says):
    given = {"qkv": torch.zeros(1, 3, 3, 192), "table": torch.zeros(169, 2), "padding": torch.zeros(192)}
    given |= {"heads": 2, "window": (7, 7), "shift": (3, 3)} | change
    with pytest.raises(error, match=says):
        window_attention(given.pop("qkv"), given.pop("table"), given.pop("padding"), **given)


def test_kernel_refuses_what_it_does_not_take(kernels):
    qkv, table, padding = torch.zeros(1, 3, 3, 96), torch.zeros(169, 2), torch.zeros(96)
    with pytest.raises(ValueError, match="expected 32 channels"):
        window_attention(qkv, table, padding, heads=2, window=(7, 7))
    with pytest.raises(TypeError, match="float64"):
        window_attention(qkv.double(), table[:, :1], padding, heads=1, window=(7, 7))
    big = torch.zeros((2 * 13 - 1) ** 2, 1)
    with pytest.raises(ValueError, match="up to 144 tokens"):
        window_attention(qkv, big, padding, heads=1, window=(13, 13))
