"""Triton kernel of `window_attention`, and what is declared of it."""

from __future__ import annotations

import triton
import triton.language as tl

from ..spec import Configuration, KernelSpec, Pointer, Scalar, Variant
from .reference import HEAD_WIDTH, MASKED

__all__ = ["FORWARD"]

_D = tl.constexpr(HEAD_WIDTH)
_LOG2_E = tl.constexpr(1.4426950408889634)
_SCALE = tl.constexpr(HEAD_WIDTH**-0.5)
_MASKED = tl.constexpr(MASKED)


@triton.jit
def _places(token, b, window_y, window_x, Y, X, SY, SX, WY: tl.constexpr, WX: tl.constexpr):
    """Where a window's tokens live in [B * Y * X], and which do: the others pad the map or the block."""
    # the map is rolled first and padded then
    y = window_y * WY + token // WX
    x = window_x * WX + token % WX
    # one comparison: a conjunction of three goes through the stack
    real = tl.maximum(tl.maximum(y - Y, x - X), token - WY * WX) < 0
    return (b.to(tl.int64) * Y + (y + SY) % Y) * X + (x + SX) % X, real


@triton.jit
def _rows(part: tl.constexpr, place, real, qkv, padding, h, H, padded):
    """Queries, keys or values (part 0, 1 or 2) of one head for some tokens: [N, D]."""
    d = tl.arange(0, _D)
    column = (part * H + h) * _D
    rows = tl.load(qkv + place[:, None] * (3 * H * _D) + column + d[None, :], mask=real[:, None], other=0.0)
    if part > 0:
        # what pads the map is attended to, but asks for nothing
        beyond = tl.load(padding + column + d, mask=padded & (d < _D), other=0.0)
        rows = tl.where(real[:, None], rows, beyond[None, :])
    return rows


@triton.jit
def _region(y, x, window_y, window_x, Y, X, SY, SX, WY: tl.constexpr, WX: tl.constexpr):
    """Number of the region of a window's tokens: in the last windows of a shifted map meet regions that lie apart."""
    below = (window_y == tl.cdiv(Y, WY) - 1) & (y >= WY - SY)
    beside = (window_x == tl.cdiv(X, WX) - 1) & (x >= WX - SX)
    return 2 * below.to(tl.int32) + beside.to(tl.int32)


@triton.jit
def _code(token, window_y, window_x, Y, X, SY, SX, WY: tl.constexpr, WX: tl.constexpr, ENTRIES: tl.constexpr):
    """What a token brings to a difference of two: its part of their entry in the table, and above that its region."""
    token = tl.minimum(token, WY * WX - 1)
    y = token // WX
    x = token % WX
    region = _region(y, x, window_y, window_x, Y, X, SY, SX, WY, WX)
    return region * ENTRIES + y * (2 * WX - 1) + x


@triton.jit
def _keys(start: tl.constexpr, N: tl.constexpr, qkv, padding, b, h, H, window_y, window_x, Y, X, SY, SX,
          WY: tl.constexpr, WX: tl.constexpr, ENTRIES: tl.constexpr):  # fmt: skip
    """Number, code, key and value of N tokens from `start` on."""
    token = start + tl.arange(0, N)
    place, real = _places(token, b, window_y, window_x, Y, X, SY, SX, WY, WX)
    padded = tl.maximum((window_y + 1) * WY - Y, (window_x + 1) * WX - X) > 0
    k = _rows(1, place, real, qkv, padding, h, H, padded)
    v = _rows(2, place, real, qkv, padding, h, H, padded)
    return token, _code(token, window_y, window_x, Y, X, SY, SX, WY, WX, ENTRIES), k, v


@triton.jit
def _scores(q, k, query, key, biases):
    """Scores [N, M] of keys for queries, in powers of two, from rows and codes of both."""
    N: tl.constexpr = q.shape[0]
    M: tl.constexpr = k.shape[0]
    ENTRIES: tl.constexpr = biases.shape[0]
    pair = query[:, None] - key[None, :]
    bias = tl.reshape(tl.gather(biases, tl.reshape(pair & (ENTRIES - 1), [N * M]), 0), [N, M])
    scores = tl.dot(q, tl.trans(k), input_precision="tf32x3") * (_SCALE * _LOG2_E) + bias
    apart = (pair & -ENTRIES) != 0
    return tl.where(apart, scores + _MASKED * _LOG2_E, scores)


@triton.jit(do_not_specialize=["B", "Y", "X", "H", "SY", "SX"])
def window_attention(
    qkv, table, padding, out, B, Y, X, H, SY, SX,
    WY: tl.constexpr, WX: tl.constexpr,
    QUERIES: tl.constexpr, KEYS: tl.constexpr, TAIL: tl.constexpr, ENTRIES: tl.constexpr,
):  # fmt: skip
    """One head of one window: keys, values and biases stay, queries come in blocks."""
    # heads run fastest: those of a token are neighbours in memory
    h = tl.program_id(0) % H
    window = tl.program_id(0) // H
    b = tl.program_id(1)
    windows_x = tl.cdiv(X, WX)
    window_y = window // windows_x
    window_x = window % windows_x

    entries: tl.constexpr = (2 * WY - 1) * (2 * WX - 1)
    entry = tl.arange(0, ENTRIES)
    biases = tl.load(table + h * entries + entry, mask=entry < entries, other=0.0) * _LOG2_E
    some = _keys(0, KEYS, qkv, padding, b, h, H, window_y, window_x, Y, X, SY, SX, WY, WX, ENTRIES)
    if TAIL > 0:
        others = _keys(KEYS, TAIL, qkv, padding, b, h, H, window_y, window_x, Y, X, SY, SX, WY, WX, ENTRIES)
    pieces = (some, others) if TAIL else (some,)

    for start in range(0, WY * WX, QUERIES):
        query = start + tl.arange(0, QUERIES)
        place, real = _places(query, b, window_y, window_x, Y, X, SY, SX, WY, WX)
        q = _rows(0, place, real, qkv, padding, h, H, False)
        # equal places meet in the middle of the table
        code = _code(query, window_y, window_x, Y, X, SY, SX, WY, WX, ENTRIES) + entries // 2
        largest = tl.full((QUERIES,), float("-inf"), tl.float32)
        total = tl.zeros((QUERIES,), tl.float32)
        mixed = tl.zeros((QUERIES, _D), tl.float32)
        for piece in tl.static_range(2 if TAIL else 1):
            key, key_code, k, v = pieces[piece]
            scores = _scores(q, k, code, key_code, biases)
            if KEYS + TAIL > WY * WX:
                scores = tl.where((key < WY * WX)[None, :], scores, float("-inf"))
            before = largest
            largest = tl.maximum(before, tl.max(scores, axis=1))
            weight = tl.exp2(scores - largest[:, None])
            shrunk = tl.exp2(before - largest)
            total = total * shrunk + tl.sum(weight, axis=1)
            mixed = tl.dot(weight.to(q.dtype), v, mixed * shrunk[:, None], input_precision="tf32x3")
        here = out + place[:, None] * (H * _D) + h * _D + tl.arange(0, _D)[None, :]
        tl.store(here, (mixed / total[:, None]).to(out.dtype.element_ty), mask=real[:, None])


_MANY_PLACES = (80, 90)
"""Boards that have room for more programs than a tile has: programs of more warps end sooner."""


def _configure(variant: Variant, capability: int) -> Configuration:
    """Blocks for which registers suffice: in float32 the parts of tf32x3, in 16 bits 16 queries for each warp.

    On sm_100 a block of 64 queries would pass through tensor memory, and spill.
    """
    WY, WX = variant.constants["WY"], variant.constants["WX"]
    queries, warps = (16, 4) if variant.types["T"] == "fp32" else (64, 4) if capability in _MANY_PLACES else (32, 2)
    keys, tail = _blocks(WY * WX)
    entries = triton.next_power_of_2((2 * WY - 1) * (2 * WX - 1))
    return Configuration({"QUERIES": queries, "KEYS": keys, "TAIL": tail, "ENTRIES": entries}, warps=warps, stages=1)


def _blocks(tokens: int) -> tuple[int, int]:
    """A window's tokens as one power of two, or as two where that wastes less: 144 = 128 + 16. Dots take 16 or more."""
    whole = max(triton.next_power_of_2(tokens), 16)
    tail = max(triton.next_power_of_2(tokens - whole // 2), 16)
    return (whole // 2, tail) if tail < whole // 2 else (whole, 0)


FORWARD = KernelSpec(
    name="window_attention",
    function=window_attention,
    arguments=(
        Pointer("qkv", "T", ("B", "Y", "X", f"3 * H * {HEAD_WIDTH}")),
        Pointer("table", "fp32", ("H", "(2 * WY - 1) * (2 * WX - 1)")),
        Pointer("padding", "T", (f"3 * H * {HEAD_WIDTH}",)),
        Pointer("out", "T", ("B", "Y", "X", f"H * {HEAD_WIDTH}"), written=True),
        *map(Scalar, ("B", "Y", "X", "H", "SY", "SX")),
    ),
    grid=("cdiv(Y, WY) * cdiv(X, WX) * H", "B"),
    variants=tuple(
        Variant({"T": dtype}, {"WY": side, "WX": side}) for dtype in ("fp32", "fp16", "bf16") for side in (7, 12)
    ),
    configure=_configure,
    admits={"T": ("fp32", "fp16", "bf16")},
)
