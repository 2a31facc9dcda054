"""Digital numbers to channels: the reference against a loop, the kernel and the engine's native step against it."""

import numpy as np
import pytest
import torch

from uperfuse.engine import _native
from uperfuse.kernels.launch import dtype_name
from uperfuse.kernels.prepare import Channels, prepare, reference

from .registration import assert_registered
from .tolerances import assert_near
from .traffic import assert_in_readme, measure, measure_unfused

SAMPLES = (torch.uint8, torch.uint16, torch.int16, torch.float32)
DTYPES = (torch.float32, torch.float16, torch.bfloat16)

# bands, B, Y, X and per channel its band and the band subtracted from it
CASES = {
    "near infrared, red, green": (4, 2, 5, 7, (3, 0, 1), (-1, -1, -1)),
    "surface and height": (2, 1, 12, 16, (0, 0), (-1, 1)),
    "more pixels than a block": (3, 2, 37, 112, (2, 1, 1, 0, 1), (-1, 0, 2, 1, -1)),
    "one pixel": (1, 1, 1, 1, (0,), (-1,)),
}


def _case(name: str, *, sample: torch.dtype):
    """Digital numbers over the whole range of their dtype, channels, and a void mask."""
    bands, B, Y, X, band, minus = CASES[name]
    generator = np.random.default_rng(5)
    if sample == torch.float32:
        numbers = generator.normal(300, 500, (B, bands, Y, X)).astype(np.float32)
    else:
        limits = np.iinfo(str(sample).removeprefix("torch."))
        numbers = generator.integers(limits.min, limits.max, (B, bands, Y, X), dtype=limits.dtype, endpoint=True)
    mean = generator.uniform(-100, 500, len(band)).tolist()
    std = generator.uniform(30, 600, len(band)).tolist()
    void = torch.from_numpy(generator.random((B, Y, X)) < 0.3)
    return torch.from_numpy(numbers), Channels.of(band=band, minus=minus, mean=mean, std=std), void


@pytest.mark.parametrize("sample", SAMPLES, ids=str)
def test_reference_equals_the_loop(sample):
    pixels, channels, void = _case("surface and height", sample=sample)
    for mask in (None, void):
        got = prepare(pixels, channels=channels, void=mask, dtype=torch.float64)
        want = reference.naive(pixels, channels=channels, void=mask)
        torch.testing.assert_close(got.values, want, atol=0, rtol=1e-14)
        assert got.broken.tolist() == [0]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("sample", SAMPLES, ids=str)
@pytest.mark.parametrize("name", CASES)
def test_kernel_equals_the_reference(kernels, name, sample, dtype):
    pixels, channels, void = _case(name, sample=sample)
    for mask in (None, void, void.to(torch.uint8) * 7):
        got = prepare(pixels, channels=channels, void=mask, dtype=dtype)
        truth = reference.prepare(pixels, channels=channels, void=mask, dtype=torch.float64)
        assert got.values.dtype == dtype
        assert_near(got.values, truth.values, operation="prepare")
        assert got.broken.tolist() == [0] * len(pixels)
        assert mask is None or not got.values.movedim(1, -1)[void].any()


@pytest.mark.parametrize("sample", SAMPLES, ids=str)
@pytest.mark.parametrize("name", CASES)
def test_kernel_and_engine_agree_to_the_bit(kernels, name, sample):
    pixels, channels, void = _case(name, sample=sample)
    got = prepare(pixels, channels=channels, void=void)
    for b in range(len(pixels)):
        out = np.empty(got.values.shape[1:], np.float32)
        tables = {each: getattr(channels, each).tolist() for each in ("band", "minus", "mean", "std")}
        assert _native.prepare(pixels[b].numpy(), out=out, void=void[b].numpy(), **tables) == 0
        assert torch.equal(got.values[b], torch.from_numpy(out))


@pytest.mark.parametrize("fused", [False, True], ids=["reference", "kernel"])
def test_what_is_not_finite_is_counted_unless_void(request, fused):
    if fused:
        request.getfixturevalue("kernels")
    pixels, channels, _ = _case("surface and height", sample=torch.float32)
    pixels = torch.cat([pixels, pixels])
    void = torch.zeros(2, 12, 16, dtype=torch.bool)
    pixels[1, 0, 3, 4] = torch.nan  # both channels
    pixels[1, 1, 11, 15] = -torch.inf  # height alone
    pixels[0, 0, 0, 0] = torch.inf
    void[0, 0, 0] = True
    got = prepare(pixels, channels=channels, void=void)
    assert got.broken.tolist() == [0, 3]
    assert got.values[0, :, 0, 0].tolist() == [0, 0]
    assert got.values[1, :, 3, 4].isnan().all()
    assert prepare(pixels, channels=channels).broken.tolist() == [2, 3]


@pytest.mark.filterwarnings("ignore:overflow encountered in cast:RuntimeWarning")  # NumPy's, in the interpreter
@pytest.mark.parametrize("fused", [False, True], ids=["reference", "kernel"])
def test_what_float16_cannot_hold_is_counted(request, fused):
    if fused:
        request.getfixturevalue("kernels")
    pixels = torch.tensor([7e5, 3.0])[None, None, None]
    channels = Channels.of(band=[0], mean=[0.0], std=[10.0])
    assert prepare(pixels, channels=channels, dtype=torch.float16).broken.tolist() == [1]
    assert prepare(pixels, channels=channels, dtype=torch.bfloat16).broken.tolist() == [0]


def test_takes_pixels_that_are_not_contiguous(kernels):
    pixels, channels, void = _case("near infrared, red, green", sample=torch.uint8)
    turned = pixels.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)
    mask = void.mT.contiguous().mT
    assert not turned.is_contiguous()
    want = prepare(pixels, channels=channels, void=void)
    assert torch.equal(prepare(turned, channels=channels, void=mask).values, want.values)


@pytest.mark.parametrize("interpreted", [False, True], ids=["reference", "kernel"])
def test_op_is_registered_rightly(request, interpreted):
    if interpreted:
        request.getfixturevalue("kernels")
    pixels, channels, void = _case("surface and height", sample=torch.float32)
    tables = (channels.band, channels.minus, channels.mean, channels.std)
    for mask in (None, void.to(torch.uint8)):
        assert_registered(torch.ops.uperfuse.prepare.default, pixels, mask, *tables, torch.bfloat16)


def test_compiles_without_graph_breaks(kernels):
    pixels, channels, void = _case("near infrared, red, green", sample=torch.uint8)

    def twice(pixels, void):
        values, broken = prepare(pixels, channels=channels, void=void, dtype=torch.float16)
        return values * 2, broken

    compiled = torch.compile(twice, fullgraph=True, backend="aot_eager")
    for ours, theirs in zip(compiled(pixels, void), twice(pixels, void), strict=True):
        assert torch.equal(ours, theirs)


def test_moves_each_byte_once(kernels):
    """Aerial images of four bands, of which the network sees three, and elevation, as LC-F and LC-L have them."""
    aerial = Channels.of(band=[3, 0, 1], mean=[1.0, 2.0, 3.0], std=[4.0, 5.0, 6.0])
    elevation = Channels.of(band=[0, 0], minus=[-1, 1], mean=[1.0, 2.0], std=[3.0, 4.0])
    fp32, bf16 = torch.float32, torch.bfloat16
    rows = []
    for what, bands, sample, channels, cases in (
        ("aerial", 4, torch.uint8, aerial, [(512, fp32), (512, bf16), (768, bf16)]),
        ("elevation", 2, torch.float32, elevation, [(512, bf16), (768, bf16)]),
    ):
        for px, dtype in cases:
            pixels = torch.zeros(1, bands, px, px, dtype=sample)
            void = torch.zeros(1, px, px, dtype=torch.uint8)
            with measure() as launches:
                values, _ = prepare(pixels, channels=channels, void=void, dtype=dtype)
            with measure_unfused() as unfused:
                reference.prepare(pixels, channels=channels, void=void, dtype=dtype)
            (launch,) = launches
            # a band that no channel is made of is not read
            unread = bands - len({*channels.band.tolist(), *channels.minus.tolist()} - {-1})
            compulsory = launch.compulsory - unread * pixels[0, 0].nbytes
            assert launch.moved / compulsory <= 1.15
            row = f"{what} {px} px, {dtype_name(pixels)} to {dtype_name(values)}"
            rows.append((row, launch.moved, compulsory, unfused.moved))
    assert_in_readme("prepare", rows)


@pytest.mark.parametrize(
    ("pixels", "void", "error", "says"),
    [
        (torch.zeros(1, 1, 2, 3), None, ValueError, "at least 2 bands"),
        (torch.zeros(2, 2, 3), None, ValueError, "expected"),
        (torch.zeros(1, 2, 2, 3), torch.zeros(1, 3, 2, dtype=torch.bool), ValueError, r"expected \[1, 2, 3\]"),
        (torch.zeros(1, 2, 2, 3), torch.zeros(1, 2, 3), TypeError, "expected bool or uint8"),
        (torch.zeros(1, 2, 2, 3, dtype=torch.float16), None, TypeError, "prepare runs with S = fp16"),
    ],
)
def test_refuses_what_does_not_belong_together(kernels, pixels, void, error, says):
    with pytest.raises(error, match=says):
        prepare(pixels, channels=Channels.of(band=[0], minus=[1], mean=[0.0], std=[1.0]), void=void)


@pytest.mark.parametrize(
    ("said", "says"),
    [
        ({"band": [0], "mean": [0.0, 1.0], "std": [1.0]}, "as many of each"),
        ({"band": [], "mean": [], "std": []}, "at least 1"),
        ({"band": [-1], "mean": [0.0], "std": [1.0]}, "count from 0"),
        ({"band": [0], "minus": [-2], "mean": [0.0], "std": [1.0]}, "count from 0"),
        ({"band": [0], "mean": [0.0], "std": [0.0]}, "above 0"),
        ({"band": [0], "mean": [0.0], "std": [float("nan")]}, "above 0"),
    ],
)
def test_refuses_channels_that_cannot_be(said, says):
    with pytest.raises(ValueError, match=says):
        Channels.of(**said)
