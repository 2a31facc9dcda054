"""Logits to labels and confidence: the reference against a loop, the kernel and the engine's native step against it."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from uperfuse.engine import _native
from uperfuse.engine.launching import ResizeStep, classify_block, classify_room
from uperfuse.engine.resize import axis_resize
from uperfuse.kernels.classify import Resize, classify, reference
from uperfuse.kernels.launch import dtype_name

from .registration import assert_registered
from .tolerances import TOLERANCES
from .traffic import assert_in_readme, measure, measure_unfused

DTYPES = (torch.float32, torch.float16, torch.bfloat16)
VOID = 255

# logits [B, K, Y, X] and what they are resized to
CASES = {
    "a quarter": ((2, 19, 20, 37), [Resize((80, 148), align_corners=True)]),
    "half-pixel centres": ((1, 15, 10, 11), [Resize((77, 160), align_corners=False)]),
    "twice": ((1, 23, 6, 5), [Resize((24, 20), align_corners=True), Resize((131, 80), align_corners=False)]),
    "twice, to fewer columns": ((1, 3, 7, 9), [Resize((7, 30), align_corners=False), Resize((20, 13), True)]),
    "not at all": ((2, 64, 9, 37), []),
    "to the same size": ((1, 2, 16, 16), [Resize((16, 16), align_corners=False)]),
    "much shorter": ((1, 3, 90, 70), [Resize((7, 3), align_corners=False)]),
    "one row and one class": ((1, 1, 1, 4), [Resize((1, 16), align_corners=True)]),
    "to one pixel": ((1, 5, 4, 3), [Resize((1, 1), align_corners=True)]),
}


def _logits(name: str, *, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    torch.manual_seed(4)
    return (3 * torch.randn(CASES[name][0], dtype=torch.float64)).to(dtype)


def _void(name: str) -> torch.Tensor:
    """A third of the map's pixels, at random; everything in the second sample."""
    shape, resizes = CASES[name]
    generator = torch.Generator().manual_seed(6)
    void = torch.rand(shape[0], *(resizes[-1].shape_yx if resizes else shape[2:]), generator=generator) < 1 / 3
    void[1:] = True
    return void


def _full(logits: torch.Tensor, resizes) -> torch.Tensor:
    """Float64 logits at the map's size."""
    full = logits.double()
    for resize in resizes:
        full = F.interpolate(full, size=resize.shape_yx, mode="bilinear", align_corners=resize.align_corners)
    return full


def _assert_maps(labels, confidence, logits, *, resizes, percent_points: float = 0.0) -> None:
    """Labels and confidence are right wherever float64 says that rounding cannot change them.

    Args:
        labels: to be checked.
        confidence: to be checked.
        logits: what they were made from.
        resizes: and how.
        percent_points: by how much more a confidence may be off before it is rounded.
    """
    full = _full(logits, resizes)
    largest = float(logits.double().abs().max())
    tolerance = TOLERANCES["classify", logits.dtype]
    best, label = full.max(1)
    second = full.scatter(1, label[:, None], -torch.inf).amax(1)
    clear = best - second > tolerance * largest
    assert clear.double().mean() > 0.9
    assert torch.equal(labels[clear].long(), label[clear])

    percent = 100 * full.softmax(1).amax(1)
    # of a softmax in percent, an error of the logits makes at most half as much in parts of 100
    slack = 100 * tolerance * largest + percent_points
    assert bool((confidence <= (percent + slack + 0.5).floor()).all())
    assert bool((confidence >= (percent - slack + 0.5).floor()).all())


@pytest.mark.parametrize("name", CASES)
def test_reference_equals_the_loop(name):
    logits, resizes = _logits(name), CASES[name][1]
    got = classify(logits, resizes=resizes)
    labels, confidence = reference.naive(logits, resizes=resizes)
    assert torch.equal(got.labels, labels)
    assert torch.equal(got.confidence, confidence)
    assert got.broken.tolist() == [0] * len(logits)


@pytest.mark.parametrize("name", ["a quarter", "not at all"])
def test_reference_leaves_out_what_the_loop_leaves_out(name):
    logits, resizes, void = _logits(name), CASES[name][1], _void(name)
    got = classify(logits, resizes=resizes, void=void)
    labels, confidence = reference.naive(logits, resizes=resizes, void=void)
    assert torch.equal(got.labels, labels)
    assert torch.equal(got.confidence, confidence)
    assert got.broken.tolist() == [0] * len(logits)


@pytest.mark.parametrize("fused", [False, True], ids=["reference", "kernel"])
@pytest.mark.parametrize("name", CASES)
def test_what_is_void_is_void_and_nothing_else_changes(request, name, fused):
    if fused:
        request.getfixturevalue("kernels")
    logits, resizes, void = _logits(name, dtype=torch.float32), CASES[name][1], _void(name)
    whole = classify(logits, resizes=resizes)
    got = classify(logits, resizes=resizes, void=void)
    for ours, theirs in zip(got[:2], whole[:2], strict=True):
        assert torch.equal(ours, theirs.masked_fill(void, VOID))
    assert got.broken.tolist() == [0] * len(logits)
    # whatever is not 0 is void, wherever it lies in memory
    marked = void.to(torch.uint8).mul(7).movedim(-1, 0).contiguous().movedim(0, -1)
    again = classify(logits, resizes=resizes, void=marked)
    assert torch.equal(again.labels, got.labels)
    assert torch.equal(again.confidence, got.confidence)


@pytest.mark.parametrize("fused", [False, True], ids=["reference", "kernel"])
def test_void_hides_what_is_not_finite(request, fused):
    if fused:
        request.getfixturevalue("kernels")
    logits, resizes = _logits("a quarter", dtype=torch.float32), CASES["a quarter"][1]
    logits[0, 2, 5:9, 7:20] = torch.nan
    void = torch.zeros(2, 80, 148, dtype=torch.bool)
    void[:, :30] = True  # the upper part of what is not finite
    whole = classify(logits, resizes=resizes)
    got = classify(logits, resizes=resizes, void=void)
    assert torch.equal(got.labels, whole.labels.masked_fill(void, VOID))
    assert torch.equal(got.confidence, whole.confidence.masked_fill(void, VOID))
    counted = (whole.labels == VOID) & ~void
    assert 0 < int(counted.sum()) < int(whole.broken[0])
    assert got.broken.tolist() == counted.sum((1, 2)).tolist()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", CASES)
def test_kernel_equals_the_reference(kernels, name, dtype):
    logits, resizes = _logits(name, dtype=dtype), CASES[name][1]
    got = classify(logits, resizes=resizes)
    assert got.labels.dtype == got.confidence.dtype == torch.uint8
    _assert_maps(got.labels, got.confidence, logits, resizes=resizes)
    assert got.broken.tolist() == [0] * len(logits)


@pytest.mark.parametrize("name", sorted(set(CASES) - {"much shorter"}))
def test_kernel_and_engine_agree(kernels, name):
    logits, resizes = _logits(name, dtype=torch.float32), CASES[name][1]
    got = classify(logits, resizes=resizes)
    rows, columns = (
        axis_resize(logits.shape[2 + axis], steps=[(each.shape_yx[axis], each.align_corners) for each in resizes])
        for axis in (0, 1)
    )
    for b in range(len(logits)):
        labels, confidence = map(torch.from_numpy, _native.classify(logits[b].numpy(), rows=rows, columns=columns))
        assert torch.equal(got.labels[b], labels)
        # the engine's exponential is good to a hundredth of a percent point
        _assert_maps(labels[None], confidence[None], logits[b : b + 1], resizes=resizes, percent_points=0.01)
        assert int((got.confidence[b].int() - confidence.int()).abs().max()) <= 1
        assert float((got.confidence[b] != confidence).double().mean()) < 0.01


def test_close_logits_change_places_only_within_the_tolerance(kernels):
    resizes = [Resize((128, 128), align_corners=True)]
    torch.manual_seed(5)
    logits = torch.randn(1, 9, 32, 32)
    logits[:, 7] = 9 + torch.randn(32, 32)
    logits[:, 3] = logits[:, 7] + 4e-5 * torch.randn(32, 32)
    got = classify(logits, resizes=resizes)
    full = _full(logits, resizes)
    wrong = got.labels.long() != full.argmax(1)
    apart = (full[:, 7] - full[:, 3]).abs()
    assert apart[~wrong].min() < 1e-6  # the case is hard enough
    assert wrong.sum() == 0 or float(apart[wrong].max() / logits.abs().max()) < TOLERANCES["classify", torch.float32]


def test_of_equal_logits_the_first_wins(kernels):
    logits = torch.zeros(1, 5, 3, 4)
    logits[:, 0] = -1
    for resizes in ([], [Resize((12, 16), align_corners=True)]):
        got = classify(logits, resizes=resizes)
        assert got.labels.unique().tolist() == [1]
        assert got.confidence.unique().tolist() == [int(100 / (4 + 2.718281828**-1) + 0.5)]


@pytest.mark.parametrize("fused", [False, True], ids=["reference", "kernel"])
@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf], ids=str)
@pytest.mark.parametrize("resized", [False, True], ids=["as they are", "resized"])
def test_what_is_not_finite_is_void_and_counted(request, value, resized, fused):
    if fused:
        request.getfixturevalue("kernels")
    logits = torch.randn(2, 4, 20, 30)
    resizes = [Resize((80, 120), align_corners=True)] if resized else []
    whole = classify(logits, resizes=resizes)
    logits[1, 2, 7, 11] = value
    got = classify(logits, resizes=resizes)
    assert torch.equal(got.labels[0], whole.labels[0])
    assert torch.equal(got.confidence[0], whole.confidence[0])
    touched = _full((~logits.isfinite()).double(), resizes).amax(1) > 0
    assert bool((got.labels[touched] == VOID).all())
    assert torch.equal(got.labels == VOID, got.confidence == VOID)
    assert got.broken.tolist() == (got.labels == VOID).sum((1, 2)).tolist()
    # a neighbour whose weight is 0 may count, nothing farther away
    near = F.max_pool2d(touched[:, None].double(), 9 if resized else 1, stride=1, padding=4 if resized else 0)[:, 0] > 0
    assert torch.equal(got.labels[~near], whole.labels[~near])
    assert torch.equal(got.confidence[~near], whole.confidence[~near])


def test_takes_logits_that_are_not_contiguous(kernels):
    logits, resizes = _logits("a quarter", dtype=torch.float32), CASES["a quarter"][1]
    got = classify(logits.to(memory_format=torch.channels_last), resizes=resizes)
    assert torch.equal(got.labels, classify(logits, resizes=resizes).labels)


def _read(steps, *, axis: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """First and last place that the pixels of an axis read, in float32 as the kernel computes them."""
    places = np.arange(size, dtype=np.float32)
    first = last = places
    for step in reversed(steps):
        scale, centre = np.float32(step.scale(axis)), np.float32(step.centre)
        first, last = (
            np.minimum(np.maximum(scale * (each + centre) - centre, 0).astype(int), step.source_yx[axis] - 1)
            for each in (first, last)
        )
        last = np.minimum(last + 1, step.source_yx[axis] - 1)
    return first, last


def test_what_a_block_reads_has_room():
    generator = np.random.default_rng(3)
    for _ in range(400):
        source, middle, size = (int(2**power) for power in generator.uniform(0, 9, 3))
        first = ResizeStep((source, source), (max(source, middle),) * 2, bool(generator.integers(2)))
        second = ResizeStep(first.to_yx, (size, size), bool(generator.integers(2)))
        steps = [first, second] if generator.integers(2) else [ResizeStep(first.source_yx, (size, size), True)]
        for dtype in ("fp32", "bf16"):
            room_yx = classify_room(dtype, steps=len(steps))
            shape = classify_block(room_yx, steps=len(steps), logits_yx=first.source_yx, map_yx=(size, size))
            for axis, room in enumerate(room_yx):
                low, high = _read(steps, axis=axis, size=size)
                for start in range(0, size, shape[axis]):
                    block = slice(start, start + shape[axis])
                    assert high[block].max() - low[block].min() < room, (steps, dtype, shape)


@pytest.mark.parametrize("interpreted", [False, True], ids=["reference", "kernel"])
def test_op_is_registered_rightly(request, interpreted):
    if interpreted:
        request.getfixturevalue("kernels")
    op = torch.ops.uperfuse.classify.default
    assert_registered(op, torch.randn(2, 3, 4, 5), None, [16, 20, 33, 40], [True, False])
    assert_registered(op, torch.randn(1, 3, 4, 5), torch.ones(1, 4, 5, dtype=torch.uint8), [], [])


def test_compiles_without_graph_breaks(kernels):
    logits, resizes, void = _logits("twice", dtype=torch.float32), CASES["twice"][1], _void("twice")

    def shown(logits, void):
        found = classify(logits * 2, resizes=resizes, void=void)
        return found.labels, found.confidence.float() / 100, found.broken

    compiled = torch.compile(shown, fullgraph=True, backend="aot_eager")
    for ours, theirs in zip(compiled(logits, void), shown(logits, void), strict=True):
        assert torch.equal(ours, theirs)


def test_moves_few_bytes_twice(kernels):
    """Logits of an aerial tile as LC-F and LC-L have them, and of a SPOT-led network."""
    aerial = {px: [Resize((px, px), align_corners=True)] for px in (512, 768)}
    spot = [Resize((64, 64), align_corners=True), Resize((512, 512), align_corners=False)]
    both = (torch.float32, torch.bfloat16)
    rows = []
    for what, side, resizes, voided, dtypes in (
        ("512 px", 128, aerial[512], True, both),
        ("768 px without void", 192, aerial[768], False, both),
        ("16 to 64 to 512 px", 16, spot, True, (torch.float32,)),
    ):
        for dtype in dtypes:
            logits = torch.zeros(1, 19, side, side, dtype=dtype)
            void = torch.zeros(1, *resizes[-1].shape_yx, dtype=torch.uint8) if voided else None
            with measure() as launches:
                classify(logits, resizes=resizes, void=void)
            with measure_unfused() as unfused:
                reference.classify(logits, resizes=resizes, void=void)
            (launch,) = launches
            assert launch.ratio <= 1.15
            assert launch.loaded["void"] == (0 if void is None else void.numel())
            rows.append((f"{what}, {dtype_name(logits)}", launch.moved, launch.compulsory, unfused.moved))
    assert_in_readme("classify", rows)


@pytest.mark.parametrize(
    ("logits", "resizes", "error", "says"),
    [
        (torch.zeros(3, 4, 5), [], ValueError, "expected"),
        (torch.zeros(1, 256, 1, 1), [], ValueError, "1 to 255 classes"),
        (torch.zeros(1, 2, 0, 1), [], ValueError, "empty"),
        (torch.zeros(1, 2, 3, 4), [Resize((0, 4), True)], ValueError, "at least 1 px"),
        (torch.zeros(1, 2, 3, 4), [Resize((9, 2), True), Resize((9, 9), True)], ValueError, "no axis to get shorter"),
        (torch.zeros(1, 2, 3, 4), [Resize((n, n), True) for n in (5, 6, 7)], ValueError, "at most 2"),
        (torch.zeros(1, 2, 3, 4, dtype=torch.float64), [], TypeError, "expected one of"),
    ],
)
def test_refuses_what_it_cannot_classify(kernels, logits, resizes, error, says):
    with pytest.raises(error, match=says):
        classify(logits, resizes=resizes)


@pytest.mark.parametrize(
    ("void", "error", "says"),
    [
        (torch.zeros(2, 3, 4, dtype=torch.bool), ValueError, r"void is \[2, 3, 4\], expected \[2, 12, 16\]"),
        (torch.zeros(1, 12, 16, dtype=torch.bool), ValueError, r"expected \[2, 12, 16\]; give one entry per pixel"),
        (torch.zeros(2, 12, 16), TypeError, "void is torch.float32, expected bool or uint8"),
    ],
)
def test_refuses_void_pixels_of_another_map(void, error, says):
    with pytest.raises(error, match=says):
        classify(torch.zeros(2, 5, 3, 4), resizes=[Resize((12, 16), align_corners=True)], void=void)
