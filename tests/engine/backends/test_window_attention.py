"""Attention in windows by our own loops gives what products, sums and a softmax give."""

from __future__ import annotations

import os
import threading

import numpy as np
import openvino as ov
import pytest
from openvino import opset14 as ops

from uperfuse.engine import _native
from uperfuse.engine.agreement import relative_error
from uperfuse.engine.backends.cpu import window_attention
from uperfuse.engine.backends.cpu.compiling import compile_graph
from uperfuse.engine.backends.cpu.find_windows import attend_in_windows
from uperfuse.engine.backends.cpu.window_attention import Windows

D = 32
ROUNDED = 3e-3
"""Relative error of bf16 results: weights and results each have half of 2^-8 at most."""

needs_bf16 = pytest.mark.skipif(
    not _native.attends_in_windows(), reason="the processor has no bf16 in AVX-512, or has AMX"
)


def as_bf16(values):
    """The bits of the nearest bf16."""
    bits = np.asarray(values, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)


def as_float(bits):
    return (bits.astype(np.uint32) << 16).view(np.float32)


class Image:
    """Tokens of an image of rows x columns in windows of N places; some places hold no token."""

    def __init__(self, *, N, heads, windows, empty=0, regions=1, seed=0):
        rng = np.random.default_rng(seed)
        places = rng.permutation(windows * N)
        self.tokens = windows * N - empty
        self.places = np.minimum(places, self.tokens).reshape(windows, N).astype(np.int32)
        self.regions = rng.integers(0, regions, (windows, N)).astype(np.int32)
        self.bias = rng.normal(0, 1, (heads, N, N)).astype(np.float32)
        self.padding = as_float(as_bf16(rng.normal(0, 1, (2, heads * D))))
        shape = (1, self.tokens, heads * D)
        self.query, self.key, self.value = (as_bf16(rng.normal(0, 0.5, shape)) for _ in range(3))
        self.heads = heads

    def tables(self):
        N = self.places.shape[1]
        padded = np.full((self.heads, N, -(-N // 16) * 16), -1e30, np.float32)
        padded[..., :N] = self.bias * np.log2(np.e)
        return {"padding": self.padding, "bias": padded, "places": self.places, "regions": self.regions}

    def attended(self, **settings):
        attention = _native.WindowAttention(tokens=self.tokens, **self.tables(), **settings)
        out = np.full_like(self.query, 0x7FC0)
        attention.run(self.query, self.key, self.value, out)
        return out

    def expected(self):
        """The same in float64."""
        windows, N = self.places.shape
        query, key, value = (
            np.vstack([as_float(bits)[0], row]).astype(np.float64)[self.places].reshape(windows, N, -1, D)
            for bits, row in zip(
                (self.query, self.key, self.value), (self.padding[0], self.padding[0], self.padding[1]), strict=True
            )
        )
        scores = np.einsum("wihd,wjhd->whij", query, key) + self.bias
        scores[np.broadcast_to((self.regions[:, :, None] != self.regions[:, None, :])[:, None], scores.shape)] = -np.inf
        powers = np.exp(scores - scores.max(-1, keepdims=True))
        mixed = np.einsum("whij,wjhd->wihd", powers / powers.sum(-1, keepdims=True), value).reshape(windows * N, -1)
        result = np.empty((self.tokens + 1, mixed.shape[1]))
        result[self.places.reshape(-1)] = mixed
        return result[None, :-1]


@needs_bf16
@pytest.mark.parametrize("N", [1, 4, 15, 16, 17, 33, 49, 64, 70, 100, 112, 128, 144, 150, 170, 190, 200, 220, 240, 256])
def test_windows_of_every_size_attend(N):
    image = Image(N=N, heads=3, windows=4, seed=N)
    assert relative_error(as_float(image.attended()), image.expected()) < ROUNDED


@needs_bf16
@pytest.mark.parametrize("heads", [1, 4, 5, 8])
@pytest.mark.parametrize(("empty", "regions"), [(0, 4), (100, 1), (171, 3)])
def test_windows_are_padded_and_their_regions_kept_apart(heads, empty, regions):
    image = Image(N=49, heads=heads, windows=6, empty=empty, regions=regions)
    assert relative_error(as_float(image.attended()), image.expected()) < ROUNDED


@needs_bf16
@pytest.mark.parametrize("threads", [2, 3, 8])
def test_the_number_of_threads_changes_no_bit(threads):
    image = Image(N=144, heads=6, windows=3, empty=40, regions=2)
    assert np.array_equal(image.attended(threads=threads), image.attended())


@needs_bf16
def test_large_scores_neither_overflow_nor_vanish():
    image = Image(N=49, heads=2, windows=2)
    image.bias += 3000
    expected = image.expected()
    assert relative_error(as_float(image.attended()), expected) < ROUNDED
    image.bias[:] = -3000
    assert np.isfinite(as_float(image.attended())).all()


@needs_bf16
def test_what_is_not_a_number_stays_so():
    image = Image(N=16, heads=1, windows=2)
    token = image.places[0, 3]
    image.key[0, token, 5] = 0x7FC0
    got = as_float(image.attended())[0]
    assert np.isnan(got[image.places[0]]).all()
    assert np.isfinite(got[image.places[1]]).all()


@needs_bf16
def test_the_caller_keeps_its_cores():
    before = os.sched_getaffinity(0)
    image = Image(N=144, heads=4, windows=4)
    cores = sorted(before)
    image.attended(threads=3, cores=cores)
    image.attended(threads=3, cores=[cores[0]])
    image.attended(threads=3, cores=[-1, 10**6])
    assert os.sched_getaffinity(0) == before


@needs_bf16
@pytest.mark.parametrize(
    ("table", "change", "error", "message"),
    [
        ("places", lambda at: at.astype(np.int64), TypeError, "places has dtype int64"),
        ("places", lambda at: at - 1, ValueError, "places holds -1; expected 0 to 31, or 32 for none"),
        ("places", lambda at: at + 2, ValueError, "places holds 33; expected 0 to 31, or 32 for none"),
        ("places", lambda at: np.zeros((1, 257), np.int32), ValueError, "at most 256 tokens"),
        ("regions", lambda of: of[:1], ValueError, r"regions has shape \[1, 16\]"),
        ("bias", lambda bias: bias[..., :15], ValueError, r"bias has shape \[2, 16, 15\]"),
        ("bias", lambda bias: bias.astype(np.float64), TypeError, "bias has dtype float64"),
        ("padding", lambda rows: rows[:, :32], ValueError, r"padding has shape \[2, 32\]"),
        ("padding", lambda rows: np.repeat(rows, 2, 0)[::2], ValueError, "padding is not C-contiguous"),
    ],
)
def test_wrong_tables_are_refused(table, change, error, message):
    image = Image(N=16, heads=2, windows=2)
    tables = image.tables()
    tables[table] = change(tables[table])
    with pytest.raises(error, match=message):
        _native.WindowAttention(tokens=image.tokens, **tables)


@needs_bf16
@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda rows: rows.astype(np.float32), TypeError, "keys has dtype float32; expected bf16"),
        (lambda rows: rows[:, :-1], ValueError, r"keys has shape \[1, 31, 64\]"),
        (lambda rows: np.repeat(rows, 2, 1)[:, ::2], ValueError, "keys is not C-contiguous"),
        (lambda rows: rows.tolist(), TypeError, "keys is a list"),
    ],
)
def test_wrong_rows_are_refused(change, error, message):
    image = Image(N=16, heads=2, windows=2)
    attention = _native.WindowAttention(tokens=image.tokens, **image.tables())
    with pytest.raises(error, match=message):
        attention.run(image.query, change(image.key), image.value, np.empty_like(image.query))


@needs_bf16
def test_results_are_not_written_where_nothing_may_be():
    image = Image(N=16, heads=2, windows=2)
    attention = _native.WindowAttention(tokens=image.tokens, **image.tables())
    out = np.empty_like(image.query)
    out.flags.writeable = False
    with pytest.raises(ValueError, match="out is read-only; expected an array that can be written"):
        attention.run(image.query, image.key, image.value, out)


@pytest.mark.skipif(_native.attends_in_windows(), reason="the processor can")
def test_processors_without_bf16_say_so():
    image = Image(N=16, heads=2, windows=2)
    with pytest.raises(RuntimeError, match="does not multiply bf16"):
        _native.WindowAttention(tokens=image.tokens, **image.tables())


def test_tables_come_back_as_they_were_packed():
    image = Image(N=5, heads=2, windows=3)
    windows = Windows(**image.tables())
    again = Windows.unpacked(windows.packed())
    for name in ("places", "regions", "bias", "padding"):
        assert np.array_equal(getattr(again, name), getattr(windows, name))


HEADS, N, WINDOWS = 2, 16, 3


class Block:
    """A Swin block's attention as plans have it, between the products that make queries and the one behind."""

    def __init__(self, *, padded=True, masked=True, eight_bits=False, zero=128, seed=0):
        rng = np.random.default_rng(seed)
        self.tokens = WINDOWS * N - 9 if padded else WINDOWS * N
        self.padded, self.masked, self.eight_bits, self.zero = padded, masked, eight_bits, zero
        self.places = np.minimum(rng.permutation(WINDOWS * N), self.tokens)
        self.weights = rng.normal(0, 0.2, (3, HEADS * D, HEADS * D)).astype(np.float32)
        self.biases = rng.normal(0, 1, (3, HEADS * D)).astype(np.float32)
        self.bias = rng.normal(0, 1, (HEADS, N, N)).astype(np.float32)
        self.regions = rng.integers(0, 2, (WINDOWS, N)).astype(np.int32)
        self.given = rng.normal(0, 1, (1, self.tokens, HEADS * D)).astype(np.float32)

    def model(self, *, others=0, back=None):
        """Its graph; `others` read the padded tokens besides, `back` is a wrong order behind it."""
        tokens = ops.parameter([1, self.tokens, HEADS * D], np.float32)
        wide, results = ops.relu(tokens), []
        if self.padded:
            zeros = [np.array([0, 0, 0]), np.array([0, 1, 0])]
            wide = ops.pad(wide, *zeros, "constant", np.float32(0))
        results += [ops.result(ops.relu(wide)) for _ in range(others)]
        if self.eight_bits:
            wide = ops.fake_quantize(
                wide,
                np.float32(-self.zero / 32),
                np.float32((255 - self.zero) / 32),
                np.float32(0),
                np.float32(255),
                256,
            )
            wide = ops.convert(ops.convert(wide, "u8"), np.float32)
            wide = ops.multiply(ops.subtract(wide, np.float32(self.zero)), np.float32(1 / 32))
        made = [
            ops.add(ops.matmul(wide, ops.constant(weight), False, False), ops.constant(bias))
            for weight, bias in zip(self.weights, self.biases, strict=True)
        ]
        if self.padded:
            made = [ops.gather(part, ops.constant(self.places), np.array(1)) for part in made]
        query, key, value = (
            ops.transpose(ops.reshape(part, np.array([-1, N, HEADS, D]), False), np.array(order))
            for part, order in zip(made, ([0, 2, 1, 3], [0, 2, 3, 1], [0, 2, 1, 3]), strict=True)
        )
        scores = ops.add(ops.matmul(query, key, False, False), ops.constant(self.bias))
        if self.masked:
            mask = np.where(self.regions[:, None, :, None] != self.regions[:, None, None, :], -100.0, 0.0)
            scores = ops.add(scores, ops.constant(mask.astype(np.float32)))
        mixed = ops.transpose(ops.matmul(ops.softmax(scores, 3), value, False, False), np.array([0, 2, 1, 3]))
        rows = ops.reshape(mixed, np.array([1, -1, HEADS * D]), False)
        if self.padded:
            order = np.argsort(self.places, kind="stable")[: self.tokens] if back is None else back
            rows = ops.gather(rows, ops.constant(order), np.array(1))
        product = ops.matmul(rows, ops.constant(self.weights[0]), False, False)
        results.insert(0, ops.result(ops.relu(product)))
        for number, door in enumerate([tokens, *results]):  # what is compiled is kept under these names
            door.set_friendly_name(f"door{number}")
        return ov.Model(results, [tokens])


def kinds(model):
    return [node.get_type_name() for node in model.get_ordered_ops()]


def ran(model, given, *, precision="bf16", threads=2, cache=None):
    compiled = compile_graph(model, key="x", precision=precision, threads=threads, cache=cache)
    return np.array(compiled([given])[0])


@needs_bf16
@pytest.mark.parametrize("eight_bits", [False, True])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("padded", [False, True])
def test_a_block_attends_by_one_operation(padded, masked, eight_bits):
    block = Block(padded=padded, masked=masked, eight_bits=eight_bits)
    model = block.model()
    for _ in range(2):
        attend_in_windows(model, threads=1)
        assert kinds(model).count("WindowAttention") == 1
        assert not {"Pad", "Gather", "Softmax", "Transpose"} & set(kinds(model))
    expected = ran(block.model(), block.given, precision="float32")
    assert relative_error(ran(model, block.given), expected) < 5 * ROUNDED


@needs_bf16
def test_a_row_of_padding_that_8_bits_do_not_keep_at_0_stays_in_the_graph():
    """0 lies beyond the range: it becomes 1/32."""
    block = Block(eight_bits=True, zero=-1)
    model = block.model()
    attend_in_windows(model, threads=1)
    assert "WindowAttention" not in kinds(model)


@needs_bf16
def test_padded_tokens_that_others_read_stay_in_the_graph():
    model = Block().model(others=1)
    attend_in_windows(model, threads=1)
    assert "WindowAttention" not in kinds(model)


@needs_bf16
def test_tokens_that_come_back_in_another_order_are_left_alone():
    block = Block()
    order = np.argsort(block.places, kind="stable")[: block.tokens]
    model = block.model(back=np.roll(order, 1))
    attend_in_windows(model, threads=1)
    assert "WindowAttention" not in kinds(model)


def test_graphs_stay_as_they_are_where_the_processor_cannot(monkeypatch):
    monkeypatch.setattr(_native, "attends_in_windows", lambda: False)
    block = Block()
    model = block.model()
    attend_in_windows(model, threads=1)
    assert "Softmax" in kinds(model)
    assert "WindowAttention" not in kinds(model)


def test_float32_has_no_windows_of_our_own():
    model = Block().model()
    compile_graph(model, key="x", precision="float32", threads=1)
    assert "WindowAttention" not in kinds(model)


@needs_bf16
def test_nothing_is_copied_between_products_and_the_operation():
    """Conversions to bf16 are dropped, for the products give it."""
    compiled = compile_graph(Block().model(), key="x", precision="bf16", threads=1)
    layers = [node.get_rt_info()["layerType"].astype(str) for node in compiled.get_runtime_model().get_ops()]
    assert layers.count("Reference") == 1
    assert "Convert" not in layers
    assert layers.count("FullyConnected") == 4


@needs_bf16
def test_a_graph_that_was_kept_attends_with_as_many_threads(tmp_path, monkeypatch):
    block = Block()
    first = ran(block.model(), block.given, threads=3, cache=tmp_path)
    used = []

    class Recorded:
        def __init__(self, **settings):
            used.append((settings["threads"], settings["cores"]))
            self._native = _native.WindowAttention(**settings)

        def run(self, *rows):
            self._native.run(*rows)

    monkeypatch.setattr(
        window_attention,
        "_native",
        type("Native", (), {"WindowAttention": Recorded, "attends_in_windows": staticmethod(lambda: True)}),
    )
    compiled = compile_graph(block.model(), key="x", precision="bf16", threads=3, cache=tmp_path)
    assert compiled.get_property("LOADED_FROM_CACHE")
    assert np.array_equal(compiled([block.given])[0], first)
    assert used == [(3, tuple(sorted(os.sched_getaffinity(0))))]


@needs_bf16
def test_threads_share_what_is_compiled():
    block = Block()
    compiled = compile_graph(block.model(), key="x", precision="bf16", threads=2)
    expected, got = np.array(compiled([block.given])[0]), {}

    def work(number):
        request = compiled.create_infer_request()
        for _ in range(20):
            got[number] = np.array(request.infer([block.given])[0])

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == 4
    assert all(np.array_equal(each, expected) for each in got.values())
