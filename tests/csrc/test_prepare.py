"""`_native.prepare` against PyTorch's `(x - mean) / std`: equal to the last bit."""

import numpy as np
import pytest
import torch

from uperfuse.engine import _native

BANDS = 5
CHANNELS = {
    "band": [3, 0, 1, 0],
    "minus": [-1, -1, -1, 4],
    "mean": [106.59, 105.66, 111.35, 0.0],
    "std": [39.78, 52.23, 45.62, 537.55],
}
DTYPES = ["uint8", "uint16", "int16", "float32"]


def tile_of(dtype, shape=(BANDS, 21, 37), seed=0):
    generator = np.random.default_rng(seed)
    if dtype == "float32":
        return generator.normal(300, 500, shape).astype(np.float32)
    limits = np.iinfo(dtype)
    return generator.integers(limits.min, limits.max, shape, dtype=dtype, endpoint=True)


def torch_prepared(tile, channels=CHANNELS, void=None):
    bands = torch.from_numpy(tile.astype(np.float32))
    made = []
    for band, minus, mean, std in zip(*channels.values(), strict=True):
        values = bands[band] if minus < 0 else bands[band] - bands[minus]
        made.append((values - torch.tensor(mean)) / torch.tensor(std))
    out = torch.stack(made).numpy()
    if void is not None:
        out[:, void] = 0
    return out


def prepared(tile, *, void=None, channels=CHANNELS, **options):
    out = np.full((len(channels["band"]), *tile.shape[1:]), np.nan, np.float32)
    assert _native.prepare(tile, out=out, void=void, **channels, **options) == 0
    return out


@pytest.fixture(params=_native.levels())
def level(request):
    return request.param


@pytest.mark.parametrize("shape", [(5, 1, 1), (5, 1, 130), (5, 129, 3), (5, 70, 64), (5, 65, 33)], ids=str)
@pytest.mark.parametrize("dtype", DTYPES)
def test_equals_torch(dtype, shape, level):
    tile = tile_of(dtype, shape)
    void = np.random.default_rng(1).random(shape[1:]) < 0.3
    for threads in (1, 2, 7):
        np.testing.assert_array_equal(prepared(tile, threads=threads, level=level), torch_prepared(tile))
        got = prepared(tile, void=void, threads=threads, level=level)
        np.testing.assert_array_equal(got, torch_prepared(tile, void=void))
        assert not np.signbit(got[:, void]).any()


def test_elevation_keeps_its_metres(level):
    """Surface minus terrain is taken before the statistics, so that tall ground does not eat the centimetres."""
    terrain = np.linspace(1000, 4800, 40 * 50, dtype=np.float32).reshape(40, 50)
    tile = np.stack([terrain + np.float32(12.5), terrain])
    channels = {"band": [0, 0], "minus": [-1, 1], "mean": [311.06, 311.06], "std": [537.55, 537.55]}
    got = prepared(tile, channels=channels, level=level)
    np.testing.assert_array_equal(got, torch_prepared(tile, channels))
    np.testing.assert_allclose(got[1] * 537.55 + 311.06, 12.5, atol=1e-3)


VIEWS = {
    "interleaved": lambda tile: np.ascontiguousarray(tile.transpose(1, 2, 0)).transpose(2, 0, 1),
    "crop": lambda tile: tile[:, 3:-2, 5:-7],
    "mirrored": lambda tile: tile[::-1, ::-1, ::-1],
    "every second": lambda tile: tile[:, ::2, ::-3],
    "turned": lambda tile: tile.swapaxes(1, 2),
    "one row repeated": lambda tile: np.broadcast_to(tile[:, :1], tile.shape),
}


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_strided_views(dtype, view, level):
    tile = VIEWS[view](tile_of(dtype))
    void = VIEWS[view](tile_of("uint8") > 200)[2]
    before = tile.copy()
    np.testing.assert_array_equal(prepared(tile, void=void, level=level), torch_prepared(before, void=void))
    np.testing.assert_array_equal(tile, before)


@pytest.mark.parametrize("dtype", DTYPES)
def test_unaligned_samples(dtype, level):
    whole = tile_of(dtype)
    packed = np.zeros(whole.shape, np.dtype([("odd", "u1"), ("sample", dtype)]))
    packed["sample"] = whole
    np.testing.assert_array_equal(prepared(packed["sample"], level=level), torch_prepared(whole))
    shifted = np.frombuffer(b"\0" + whole.tobytes(), np.uint8)[1:].view(dtype).reshape(whole.shape)
    np.testing.assert_array_equal(prepared(shifted, level=level), torch_prepared(whole))


def test_fills_a_place_in_a_batch(level):
    tile = tile_of("uint8")
    canvas = np.full((2, 6, 25, 40), 7.0, np.float32)
    place = canvas[1, 1:5, 2:23, 3:40]
    assert _native.prepare(tile, out=place, **CHANNELS, threads=2, level=level) == 0
    np.testing.assert_array_equal(place, torch_prepared(tile))
    place[...] = 7
    assert (canvas == 7).all()


def test_counts_nonfinite_samples_once(level):
    tile = tile_of("float32", (BANDS, 70, 45))
    void = np.zeros(tile.shape[1:], bool)
    void[10, 20:] = True
    out = np.empty((4, 70, 45), np.float32)

    def count(mask):
        return _native.prepare(tile, out=out, void=mask, **CHANNELS, threads=3, level=level)

    tile[2, 5, 5] = np.nan  # a band that no channel reads
    assert count(None) == 0
    tile[0, 69, 44] = np.nan  # read by two channels
    tile[4, 0, 0] = np.inf  # subtracted only
    tile[3, 30, 7] = -np.inf
    assert count(None) == count(void) == 3
    tile[:, 10, 20:] = np.nan
    assert count(None) == 3 + 4 * 25
    assert count(void) == 3
    assert (out[:, void] == 0).all()


TILE = tile_of("uint8", (2, 4, 5))
OUT = np.empty((1, 4, 5), np.float32)
VOID = np.zeros((4, 5), bool)

REFUSED = {
    "list": ({"tile": [1]}, TypeError, "tile is a list; expected a numpy.ndarray"),
    "dtype": ({"tile": TILE.astype(np.int32)}, TypeError, "tile has dtype int32; expected uint8, uint16, int16 or"),
    "byte order": ({"tile": TILE.astype(">u2")}, TypeError, "tile has dtype >u2; .* byte order"),
    "axes": ({"tile": TILE[0]}, ValueError, r"tile has shape \[4, 5\]; expected \[C, Y, X\]"),
    "empty": ({"tile": TILE[:, :0]}, ValueError, r"tile has shape \[2, 0, 5\]; .* no axis empty"),
    "out dtype": ({"out": OUT.astype(np.float64)}, TypeError, "out has dtype float64; expected float32"),
    "out shape": ({"out": OUT.swapaxes(1, 2)}, ValueError, r"out has shape \[1, 5, 4\]; .* = \[any, 4, 5\]"),
    "out columns": ({"out": np.empty((1, 5, 4), np.float32).swapaxes(1, 2)}, ValueError, "out has a stride of 16"),
    "out read-only": ({"out": np.broadcast_to(OUT[0], (1, 4, 5))}, ValueError, "out is read-only"),
    "band": ({"band": [2]}, ValueError, r"band\[0\] is 2; expected 0 to 1 for a tile of 2 bands"),
    "band below": ({"band": [-1]}, ValueError, r"band\[0\] is -1; expected 0 to 1"),
    "minus": ({"minus": [-2]}, ValueError, r"minus\[0\] is -2; expected -1 \(none\) to 1"),
    "entries": ({"mean": [0.0, 0.0]}, ValueError, "mean has 2 entries; expected 1, one per channel of out"),
    "no number": ({"mean": ["a"]}, TypeError, "mean holds 'a'; expected numbers"),
    "mean": ({"mean": [float("nan")]}, ValueError, r"mean\[0\] is nan; expected a finite float32"),
    "std": ({"std": [0.0]}, ValueError, r"std\[0\] is 0.0+; expected a finite float32 above 0"),
    "huge std": ({"std": [1e300]}, ValueError, r"std\[0\] is inf"),
    "void dtype": ({"void": VOID.astype(np.uint8)}, TypeError, "void has dtype uint8; expected bool"),
    "void shape": ({"void": VOID.T}, ValueError, r"void has shape \[5, 4\]; expected \[Y, X\] = \[4, 5\]"),
    "threads": ({"threads": -1}, ValueError, "threads is -1; expected at least 1"),
    "level": ({"level": ""}, ValueError, "level is ''; expected one this processor runs"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refuses(case):
    wrong, error, message = REFUSED[case]
    arguments = {"tile": TILE, "out": OUT, "band": [0], "minus": [-1], "mean": [0.0], "std": [1.0], **wrong}
    with pytest.raises(error, match=message):
        _native.prepare(arguments.pop("tile"), **arguments)
