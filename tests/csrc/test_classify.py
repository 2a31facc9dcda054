"""`_native.classify` against PyTorch's interpolate, softmax and max."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from uperfuse.engine import _native
from uperfuse.engine.resize import AxisResize, axis_resize, resize

TIE = 1e-4  # two logits closer than this may swap when the order of additions differs
HALF_PERCENT = 0.53  # rounding to whole percents, 0.011 for the polynomial exponential, some for the resize

# K, h, w
SHAPES = [(1, 1, 1), (2, 1, 5), (19, 16, 9), (23, 33, 17), (64, 5, 21), (255, 3, 4), (19, 40, 64)]

# Per case the lengths after each step as multiples of the axis, or as pixels where written so.
RESIZES = {
    "identity": lambda y, x: [],
    "x4": lambda y, x: [((4 * y, 4 * x), True)],
    "x4 then half-pixel to more": lambda y, x: [((4 * y, 4 * x), True), ((9 * y + 2, 11 * x + 1), False)],
    "x4 then half-pixel to fewer": lambda y, x: [((4 * y, 4 * x), True), ((y + 1, 2 * x), False)],
    "half-pixel": lambda y, x: [((13 * y + 1, 5 * x + 3), False)],
}

KNOWN_SIZES = {
    "aerial: 128 -> 512": ((19, 128, 128), [((512, 512), True)]),
    "spot: 16 -> 64 -> 512": ((23, 16, 16), [((64, 64), True), ((512, 512), False)]),
    "series: 10 -> 512": ((19, 10, 10), [((512, 512), False)]),
}


def logits_of(shape, seed=0):
    return np.random.default_rng(seed).normal(0, 4, shape).astype(np.float32)


def tables(shape, steps):
    rows = axis_resize(shape[1], steps=[(size[0], align) for size, align in steps])
    columns = axis_resize(shape[2], steps=[(size[1], align) for size, align in steps])
    return {"rows": rows, "columns": columns}


def torch_logits(logits, steps):
    maps = torch.from_numpy(logits.copy())[None]
    for size, align in steps:
        maps = F.interpolate(maps, size=size, mode="bilinear", align_corners=align)
    return maps[0]


def assert_like_torch(labels, confidence, logits, steps):
    maps = torch_logits(logits, steps)
    probability, expected = torch.softmax(maps, 0).max(0)
    assert labels.shape == confidence.shape == tuple(expected.shape)
    assert labels.dtype == confidence.dtype == np.uint8
    if len(maps) > 1:
        first, second = maps.topk(2, dim=0).values
        clear = ((first - second) > TIE).numpy()
        assert clear.mean() > 0.9
    else:
        clear = np.ones(labels.shape, bool)
    np.testing.assert_array_equal(labels[clear], expected.numpy()[clear])
    assert np.abs(confidence - 100 * probability.numpy()).max() <= HALF_PERCENT


@pytest.fixture(params=_native.levels())
def level(request):
    return request.param


@pytest.mark.parametrize("case", RESIZES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_ugly_shapes(shape, case, level):
    logits = logits_of(shape)
    steps = RESIZES[case](*shape[1:])
    results = [_native.classify(logits, **tables(shape, steps), threads=threads, level=level) for threads in (1, 2, 7)]
    assert_like_torch(*results[0], logits, steps)
    for other in results[1:]:
        np.testing.assert_array_equal(other, results[0])


@pytest.mark.parametrize("case", KNOWN_SIZES)
def test_sizes_of_known_networks(case, level):
    shape, steps = KNOWN_SIZES[case]
    logits = logits_of(shape)
    assert_like_torch(*_native.classify(logits, **tables(shape, steps), threads=2, level=level), logits, steps)


def test_uses_the_fastest_level_unless_told(level):
    shape, steps = (19, 12, 20), [((48, 80), True)]
    logits = logits_of(shape)
    fastest = _native.classify(logits, **tables(shape, steps), level=_native.levels()[0])
    np.testing.assert_array_equal(_native.classify(logits, **tables(shape, steps)), fastest)


@pytest.mark.parametrize(
    "view",
    [
        lambda logits: logits[::-1],
        lambda logits: logits[::3],
        lambda logits: logits[:, ::-2],
        lambda logits: logits[2:9, 1:-2, 3:-4],
        lambda logits: logits.transpose(1, 0, 2),
    ],
)
def test_strided_views(view, level):
    logits = view(logits_of((19, 23, 31)))
    steps = RESIZES["x4"](*logits.shape[1:])
    got = _native.classify(logits, **tables(logits.shape, steps), level=level)
    assert_like_torch(*got, logits, steps)


@pytest.mark.parametrize("width", [1, 63, 64, 65, 127, 130])
def test_writes_its_own_pixels_only(width, level):
    logits = logits_of((5, 7, width))
    same = tables(logits.shape, [])
    canvas = np.full((2, 9, width + 2), 77, np.uint8)
    inside = canvas[:, 1:-1, 1:-1]
    returned = _native.classify(logits, **same, out=(inside[0], inside[1]), threads=3, level=level)
    np.testing.assert_array_equal(inside, _native.classify(logits, **same, level=level))
    assert all(np.shares_memory(given, canvas) for given in returned)
    inside[...] = 77
    assert (canvas == 77).all()


def test_first_of_equal_classes_wins(level):
    logits = np.zeros((5, 6, 70), np.float32)
    same = tables(logits.shape, [])
    labels, confidence = _native.classify(logits, **same, level=level)
    assert (labels == 0).all()
    assert (confidence == 20).all()
    logits[[2, 4]] = 30
    labels, confidence = _native.classify(logits, **same, level=level)
    assert (labels == 2).all()
    assert (confidence == 50).all()


def test_one_class_is_certain(level):
    labels, confidence = _native.classify(logits_of((1, 4, 5)), **tables((1, 4, 5), [((16, 20), True)]), level=level)
    assert (labels == 0).all()
    assert (confidence == 100).all()


@pytest.mark.parametrize("large", [1e3, 1e30, np.finfo(np.float32).max])
def test_far_apart_logits_stay_finite(large, level):
    logits = np.full((3, 2, 9), -large, np.float32)
    logits[1] = large
    labels, confidence = _native.classify(logits, **tables(logits.shape, []), level=level)
    assert (labels == 1).all()
    assert (confidence == 100).all()


@pytest.mark.parametrize("classes", [1, 19])
def test_counts_nonfinite_logits(classes, level):
    logits = logits_of((classes, 33, 65))
    broken = [(0, 0, 0, np.nan), (classes - 1, 32, 64, np.inf), (classes // 2, 17, 30, -np.inf), (0, 5, 63, -np.nan)]
    for count, (k, y, x, value) in enumerate(broken, start=1):
        logits[k, y, x] = value
        with pytest.raises(ValueError, match=rf"logits hold {count} NaN or infinite values of {logits.size}"):
            _native.classify(logits, **tables(logits.shape, [((132, 260), True)]), threads=2, level=level)


def test_safe_from_several_threads():
    batch = [logits_of((19, 32, 48), seed) for seed in range(8)]
    arguments = {**tables((19, 32, 48), [((128, 192), True)]), "threads": 2}
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda logits: _native.classify(logits, **arguments), batch))
    for logits, result in zip(batch, together, strict=True):
        np.testing.assert_array_equal(result, _native.classify(logits, **arguments))


def test_full_size_logits_agree(level):
    shape = (19, 17, 12)
    steps = RESIZES["x4 then half-pixel to more"](*shape[1:])
    logits = logits_of(shape)
    full = resize(logits, **tables(shape, steps))
    assert full.dtype == np.float32
    np.testing.assert_allclose(full, torch_logits(logits, steps).numpy(), rtol=0, atol=2e-5)
    labels, _ = _native.classify(logits, **tables(shape, steps), level=level)
    top = np.sort(full, axis=0)
    np.testing.assert_array_equal(labels[top[-1] - top[-2] > TIE], full.argmax(0)[top[-1] - top[-2] > TIE])


def table(start, weight, *, dtypes=(np.int32, np.float32)):
    return AxisResize(start=np.array(start, dtypes[0]), weight=np.array(weight, dtypes[1]))


LOGITS = logits_of((3, 4, 5))
ROWS, COLUMNS = axis_resize(4, steps=[]), axis_resize(5, steps=[])
BYTES = np.zeros((4, 5), np.uint8)

REFUSED = {
    "list": ({"logits": [[[1.0]]]}, TypeError, "logits is a list; expected a numpy.ndarray"),
    "dtype": ({"logits": LOGITS.astype(np.float64)}, TypeError, "logits has dtype float64; expected float32"),
    "byte order": ({"logits": LOGITS.astype(">f4")}, TypeError, "logits has dtype >f4; expected float32"),
    "axes": ({"logits": LOGITS[0]}, ValueError, r"logits has shape \[4, 5\]; expected \[K, Y, X\]"),
    "empty": ({"logits": LOGITS[:0]}, ValueError, r"logits has shape \[0, 4, 5\]; .* no axis empty"),
    "too many classes": ({"logits": np.zeros((256, 4, 5), np.float32)}, ValueError, "at most 255 classes"),
    "columns apart": ({"logits": LOGITS.swapaxes(1, 2)}, ValueError, "logits has a stride of 20 bytes along axis 2"),
    "odd stride": (
        {"logits": np.zeros(3, np.dtype([("a", "u1"), ("b", "<f4", (4, 5))]))["b"]},
        ValueError,
        "or is not aligned; expected .*ascontiguousarray",
    ),
    "no table": ({"rows": (0, 1)}, TypeError, "rows is a tuple; expected an AxisResize"),
    "start dtype": (
        {"rows": table([0], [[1]], dtypes=(np.int64, np.float32))},
        TypeError,
        "rows.start has dtype int64",
    ),
    "weight dtype": ({"rows": table([0], [[1]], dtypes=(np.int32, float))}, TypeError, "rows.weight .* float64"),
    "no pixel": ({"rows": table([], np.zeros((0, 1)))}, ValueError, r"rows.start has shape \[0\]"),
    "lengths": ({"rows": table([0, 1], [[1]])}, ValueError, r"rows.weight has shape \[1, 1\]; expected .* \[2, any\]"),
    "taps": ({"columns": table([0], [[0.2] * 5])}, ValueError, "columns.weight has 5 taps; expected at most 4"),
    "before": ({"rows": table([-1], [[1]])}, ValueError, r"rows.start\[0\] is -1"),
    "beyond": ({"columns": table([0, 4], [[0.5, 0.5]] * 2)}, ValueError, r"columns.start\[1\] is 4; .* from 0 to 3"),
    "backwards": ({"columns": table([2, 1], [[1], [1]])}, ValueError, r"columns.start\[1\] is 1; .* do not decrease"),
    "weight order": (
        {"columns": AxisResize(COLUMNS.start[:2], np.ones((2, 2), np.float32).T[::-1])},
        ValueError,
        "columns.weight",
    ),
    "out dtype": ({"out": (BYTES, BYTES.astype(bool))}, TypeError, r"out\[1\] \(confidence\) has dtype bool"),
    "out shape": ({"out": (BYTES.T, BYTES)}, ValueError, r"out\[0\] \(labels\) has shape \[5, 4\]; .* = \[4, 5\]"),
    "out columns": (
        {"out": (np.zeros((5, 4), np.uint8).T, BYTES)},
        ValueError,
        r"out\[0\] \(labels\) has a stride of 4",
    ),
    "out read-only": ({"out": (BYTES, np.broadcast_to(BYTES[0], (4, 5)))}, ValueError, r"confidence\) is read-only"),
    "out list": ({"out": ([], BYTES)}, TypeError, r"out\[0\] \(labels\) is a list"),
    "threads": ({"threads": 0}, ValueError, "threads is 0; expected at least 1"),
    "level": ({"level": "sse9"}, ValueError, "level is 'sse9'; expected one this processor runs: .*baseline"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refuses(case):
    wrong, error, message = REFUSED[case]
    arguments = {"logits": LOGITS, "rows": ROWS, "columns": COLUMNS, **wrong}
    with pytest.raises(error, match=message):
        _native.classify(arguments.pop("logits"), **arguments)
