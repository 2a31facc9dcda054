"""Runs a build of the extension over shapes that overrun easily: `python ugly_shapes.py EXTENSION`.

Every array ends where its memory ends and the next page may not be touched: a sanitizer does not see what vector
instructions read, the processor does.
"""

import ctypes
import importlib.util
import mmap
import sys
from itertools import pairwise, product
from types import SimpleNamespace

import numpy as np

generator = np.random.default_rng(0)
libc = ctypes.CDLL(None, use_errno=True)


def guarded(array):
    """Copy of an array whose last byte is the last of its page, before a page without access."""
    room = -(-array.nbytes // mmap.PAGESIZE) * mmap.PAGESIZE
    memory = mmap.mmap(-1, room + mmap.PAGESIZE)
    first = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    if libc.mprotect(ctypes.c_void_p(first + room), ctypes.c_size_t(mmap.PAGESIZE), 0):
        raise OSError(ctypes.get_errno(), "mprotect")
    copy = np.frombuffer(memory, array.dtype, array.size, room - array.nbytes).reshape(array.shape)
    copy[...] = array
    return copy


def axis(source_px, out_px, taps):
    taps = min(taps, source_px)
    start = np.sort(generator.integers(0, source_px - taps, out_px, endpoint=True)).astype(np.int32)
    start[-1] = source_px - taps
    return SimpleNamespace(start=guarded(start), weight=guarded(generator.random((out_px, taps), np.float32)))


def classify_all(native, level):
    for classes, height, width in [(1, 1, 1), (2, 1, 3), (19, 9, 16), (23, 5, 17), (64, 2, 65), (255, 3, 7)]:
        logits = guarded(generator.normal(size=(classes, height, width)).astype(np.float32))
        for out_y, out_x in [(1, 1), (3, 15), (height, width), (4 * height, 4 * width), (130, 129)]:
            out = tuple(guarded(np.zeros((out_y, out_x), np.uint8)) for _ in range(2))
            for taps in (1, 2, 3, 4):
                tables = {"rows": axis(height, out_y, taps), "columns": axis(width, out_x, taps)}
                for view in (logits, logits[::-1, ::-1]):
                    native.classify(view, **tables, out=out, threads=1 + taps, level=level)
        logits[-1, -1, -1] = np.nan
        try:
            native.classify(logits, **tables, threads=2, level=level)
        except ValueError:
            continue
        raise AssertionError("NaN was accepted")


def views(tile):
    yield tile
    yield tile[::-1, ::-1, ::-1]
    yield tile[:, :, ::2]
    yield tile.transpose(0, 2, 1)
    records = guarded(np.zeros(tile.shape, np.dtype([("odd", "u1"), ("sample", tile.dtype)])))
    yield records["sample"]
    yield guarded(np.zeros(1 + tile.nbytes, np.uint8))[1:].view(tile.dtype).reshape(tile.shape)
    odd = guarded(np.zeros(tile.nbytes + 1, np.uint8))[:-1]
    yield odd.view(tile.dtype).reshape(tile.shape)


def prepare_all(native, level):
    channels = {"band": [2, 0], "minus": [-1, 1], "mean": [1.5, 0.0], "std": [2.0, 1.0]}
    sizes = [(1, 1), (2, 17), (65, 31), (130, 64)]
    for dtype, size in product((np.uint8, np.uint16, np.int16, np.float32), sizes):
        for tile in views(guarded(generator.integers(0, 100, (3, *size)).astype(dtype))):
            out = guarded(np.zeros((2, *tile.shape[1:]), np.float32))
            void = guarded(generator.random(tile.shape[1:]) < 0.5)
            for mask in (None, void, void[::-1, ::-1]):
                native.prepare(tile, out=out, void=mask, **channels, threads=3, level=level)


def date_layers_all(native, level):
    for widths, groups in [((1, 1), 1), ((2, 20, 20), 4), ((10, 64, 128), 4), ((3, 100, 12, 12), 4)]:
        layers = native.DateLayers(level=level)
        for before, after in pairwise(widths):
            vectors = {name: guarded(np.ones(after, np.float32)) for name in ("bias", "scale", "shift")}
            weight = guarded(generator.normal(size=(after, before, 3, 3)).astype(np.float32))
            layers.append(weight=weight, **vectors, groups=groups, epsilon=1e-5, residual=before == after)
        for dates, size in product((1, 4), [(2, 2), (3, 5), (10, 10), (13, 6)]):
            pixels = guarded(generator.normal(size=(dates, widths[0], *size)).astype(np.float32))
            out = {
                index: guarded(np.zeros((dates, after, *size), np.float32)) for index, after in enumerate(widths[1:])
            }
            out[0] = guarded(np.zeros((*size, dates, widths[1]), np.float32)).transpose(2, 3, 0, 1)
            for mask in (np.ones(dates), np.arange(dates) % 2):
                layers.run(pixels, mask=guarded(mask.astype(np.float32)), out=out, threads=3)


def window_attention_all(native):
    for tokens_of_window, heads, windows, empty in product((1, 16, 17, 49, 144, 256), (1, 5), (1, 3), (0, 7)):
        places = generator.permutation(windows * tokens_of_window).astype(np.int32)
        tokens = max(len(places) - empty, 1)
        places = guarded(np.minimum(places, tokens).reshape(windows, tokens_of_window))
        padded = -(-tokens_of_window // 16) * 16
        attention = native.WindowAttention(
            tokens=tokens,
            padding=guarded(np.ones((2, heads * 32), np.float32)),
            bias=guarded(np.zeros((heads, tokens_of_window, padded), np.float32)),
            places=places,
            regions=guarded(generator.integers(0, 2, places.shape).astype(np.int32)),
            threads=3,
        )
        rows = [guarded(np.full((1, tokens, heads * 32), 0x3F80, np.uint16)) for _ in range(4)]
        attention.run(*rows)


def main(extension):
    spec = importlib.util.spec_from_file_location("_native", extension)
    native = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(native)
    for level in native.levels():
        classify_all(native, level)
        prepare_all(native, level)
        date_layers_all(native, level)
    if native.attends_in_windows():
        window_attention_all(native)
    print("clean", *native.levels())


if __name__ == "__main__":
    main(sys.argv[1])
