"""Triton kernels of `temporal_attention`, and what is declared of them."""

from __future__ import annotations

import triton
import triton.language as tl

from ...engine.launching import ATTENTION_DATES
from ..spec import Configuration, KernelSpec, Pointer, Scalar, Variant
from .gradients import temporal_attention_backward
from .parts import by_date, centred, dot, drop, joined, kept, left, moments, read, rows, scores_of, to_channels

__all__ = ["BACKWARD", "BACKWARD_PIXELS", "FORWARD"]

BACKWARD_PIXELS = 8
"""Pixels whose part of the parameters' gradients one program sums."""

_EPSILON = tl.constexpr(1e-5)  # as the reference's


@triton.jit
def _store_attention(attention, share, row, date, T):
    H: tl.constexpr = share.shape[1]
    place = row[:, None] * H + tl.arange(0, H)[None, :]
    tl.store(attention + place, share.to(attention.dtype.element_ty), mask=date[:, None] < T)


@triton.jit
def _weigh(x, share, position):
    """Sums over dates, weighted by share [S, H]: of features [C, H], of positions [P, H], and of nothing else [H]."""
    rounded = share.to(x.dtype)
    gathered = dot(tl.trans(x), rounded)
    placed = tl.trans(dot(tl.trans(rounded), position.to(x.dtype)))
    return gathered, placed, tl.sum(rounded.to(tl.float32), axis=0)


@triton.jit
def _finite(highest):
    """Largest scores [H]; 0 of heads without a real date."""
    return tl.where(highest == float("-inf"), 0.0, highest)


@triton.jit
def _read_embedding(embed, H: tl.constexpr, C: tl.constexpr, D: tl.constexpr):
    """[D, C]; in float32 [P, H, C], which gives a warp all rows of one head."""
    channel = tl.arange(0, C)
    if embed.dtype.element_ty == tl.float32:
        row = tl.arange(0, H)[None, :] * (D // H) + tl.arange(0, D // H)[:, None]
        place = row[:, :, None] * C + channel[None, None, :]
    else:
        place = tl.arange(0, D)[:, None] * C + channel[None, :]
    return tl.load(embed + place)


@triton.jit
def _embedded(embedding, gathered, H: tl.constexpr, D: tl.constexpr):
    """Every head's rows of the embedding times its gathered features [C, H]: [P, H]."""
    if embedding.dtype == tl.float32:
        own = tl.sum(embedding * tl.trans(gathered)[None, :, :], axis=2)
    else:
        # tensor cores multiply all heads' rows by all heads' features sooner than other units do what is asked
        every = tl.dot(embedding, gathered.to(embedding.dtype))  # [D, H]
        mine = tl.arange(0, D)[:, None] // (D // H) == tl.arange(0, H)[None, :]
        own = tl.trans(tl.reshape(tl.sum(tl.where(mine, every, 0.0), axis=1), (H, D // H)))
    return own


@triton.jit(do_not_specialize=["B", "T", "N"])
def temporal_attention(
    features, days, mask, norm_scale, norm_shift, score, score_position, score_bias, embed, embed_bias, seed,
    context, attention, normaliser, mean_of, deviation_of,
    B, T, N, ratio, ratio_rest, dropout,
    H: tl.constexpr, C: tl.constexpr, D: tl.constexpr, ONE_PASS: tl.constexpr, DROPOUT: tl.constexpr,
    PIXELS: tl.constexpr, S: tl.constexpr, HOLD: tl.constexpr,
):  # fmt: skip
    """About PIXELS pixels of one sample, one after the other; with HOLD the embedding stays in registers."""
    P: tl.constexpr = D // H
    b = tl.program_id(1)
    head, channel = tl.arange(0, H), tl.arange(0, C)
    of_head = head[None, :] * P + tl.arange(0, P)[:, None]  # [P, H]
    scale, shift = tl.load(norm_scale + channel), tl.load(norm_shift + channel)
    weight = tl.load(score + head[:, None] * C + channel[None, :])  # [H, C]
    bias = tl.load(embed_bias + of_head)
    shifted = tl.sum(weight * shift[None, :], axis=1)
    weight *= scale[None, :]
    if ONE_PASS:
        date, keep, position, term = by_date(
            days, mask, score_position, score_bias, b, 0, T, ratio, ratio_rest, H, P, S
        )
    if HOLD:
        embedding = _read_embedding(embed, H, C, D)
    for pixel in tl.range(tl.program_id(0), N, tl.num_programs(0), disable_licm=True):
        if ONE_PASS:
            row = rows(b, date, pixel, T, N)
            x = read(features, row, keep, C)
            mean, squares, count = moments(x, keep, H)
        else:
            mean, squares, count = tl.zeros((H,), tl.float32), tl.zeros((H,), tl.float32), 0.0
            for start in tl.range(0, T, S, disable_licm=True):
                date = start + tl.arange(0, S)
                keep = kept(mask, b, date, T)
                part = moments(read(features, rows(b, date, pixel, T, N), keep, C), keep, H)
                mean, squares, count = joined(mean, squares, count, part[0], part[1], part[2])
        deviation = 1.0 / tl.sqrt_rn(squares / tl.maximum(count, 1.0) + _EPSILON)
        mean_c, deviation_c = to_channels(mean, C), to_channels(deviation, C)
        origin = left(features, mean_c)
        raw = weight * deviation_c[None, :]  # of features that are not divided by their deviation
        constant = shifted - tl.sum(raw * origin[None, :], axis=1)
        if ONE_PASS:
            x = centred(x, keep, mean_c)
            scores = scores_of(x, keep, raw, constant, term)
            highest = _finite(tl.max(scores, axis=0))
            share = tl.exp(scores - highest[None, :])
            total = tl.sum(share, axis=0)
            share /= tl.where(total == 0.0, 1.0, total)[None, :]
            if DROPOUT:
                share = drop(share, seed, b, date, pixel, N, dropout)
            _store_attention(attention, share, row, date, T)
            gathered, placed, sums = _weigh(x, share, position)
        else:
            highest = tl.full((H,), float("-inf"), tl.float32)
            total, sums = tl.zeros((H,), tl.float32), tl.zeros((H,), tl.float32)
            gathered, placed = tl.zeros((C, H), tl.float32), tl.zeros((P, H), tl.float32)
            for start in tl.range(0, T, S, disable_licm=True):
                date, keep, position, term = by_date(
                    days, mask, score_position, score_bias, b, start, T, ratio, ratio_rest, H, P, S
                )
                x = centred(read(features, rows(b, date, pixel, T, N), keep, C), keep, mean_c)
                scores = scores_of(x, keep, raw, constant, term)
                before, highest = highest, tl.maximum(highest, tl.max(scores, axis=0))
                share = tl.exp(scores - _finite(highest)[None, :])
                less = tl.exp(before - _finite(highest))
                total = total * less + tl.sum(share, axis=0)
                if DROPOUT:
                    share = drop(share, seed, b, date, pixel, N, dropout)
                part = _weigh(x, share, position)
                gathered = gathered * less[None, :] + part[0]
                placed = placed * less[None, :] + part[1]
                sums = sums * less + part[2]
            highest = _finite(highest)
            once = 1.0 / tl.where(total == 0.0, 1.0, total)
            gathered, placed, sums = gathered * once[None, :], placed * once[None, :], sums * once
            for start in tl.range(0, T, S, disable_licm=True):
                date, keep, position, term = by_date(
                    days, mask, score_position, score_bias, b, start, T, ratio, ratio_rest, H, P, S
                )
                row = rows(b, date, pixel, T, N)
                x = centred(read(features, row, keep, C), keep, mean_c)
                scores = scores_of(x, keep, raw, constant, term)
                share = tl.exp(scores - highest[None, :]) * once[None, :]
                if DROPOUT:
                    share = drop(share, seed, b, date, pixel, N, dropout)
                _store_attention(attention, share, row, date, T)
        placed += bias * sums[None, :]
        gathered = (gathered - origin[:, None] * sums[None, :]) * (deviation_c * scale)[:, None]
        gathered += shift[:, None] * sums[None, :]
        if not HOLD:
            embedding = _read_embedding(embed, H, C, D)
        values = _embedded(embedding, gathered, H, D) + placed
        here = b.to(tl.int64) * N + pixel
        tl.store(context + here * D + of_head, values.to(context.dtype.element_ty))
        tl.store(normaliser + here * H + head, highest + tl.log(tl.where(total == 0.0, 1.0, total)))
        tl.store(mean_of + here * H + head, mean)
        tl.store(deviation_of + here * H + head, deviation)


def _configure(variant: Variant, capability: int) -> Configuration:
    one = variant.constants["ONE_PASS"]
    held = variant.constants["C"] * variant.constants["D"] <= _HELD
    constants = {"PIXELS": 32, "HOLD": int(one and held)}
    if variant.types["T"] == "fp32" and one:
        return Configuration({**constants, "S": ATTENTION_DATES}, warps=16, stages=1, registers=128)
    if variant.types["T"] == "fp32":
        return Configuration({**constants, "S": 32}, warps=8, stages=1)
    return Configuration({**constants, "S": ATTENTION_DATES if one else 16}, warps=8, stages=1)


def _configure_backward(variant: Variant, capability: int) -> Configuration:
    dates = 8 if variant.types["T"] == "fp32" else 16
    return Configuration({"PIXELS": BACKWARD_PIXELS, "S": dates}, warps=8, stages=1)


_HELD = 256 * 128
"""Entries of the largest embedding that a program keeps; a larger one is read again for every pixel."""

_PER_PIXEL = ("B", "N", "H")
_PROGRAMS = "B * cdiv(N, PIXELS)"
_INPUTS = (
    Pointer("features", "T", ("B", "T", "N", "C")),
    Pointer("days", "fp32", ("B", "T")),
    Pointer("mask", "u8", ("B", "T")),
    Pointer("norm_scale", "fp32", ("C",)),
    Pointer("norm_shift", "fp32", ("C",)),
    Pointer("score", "fp32", ("H", "C")),
    Pointer("score_position", "fp32", ("D",)),
    Pointer("score_bias", "fp32", ("H",)),
)
_SCALARS = (*map(Scalar, ("B", "T", "N")), *(Scalar(name, "fp32") for name in ("ratio", "ratio_rest", "dropout")))
_UTAE = {"H": 16, "C": 128, "D": 256}
"""The attention of FLAIR-HUB's U-TAE."""

FORWARD = KernelSpec(
    name="temporal_attention",
    function=temporal_attention,
    arguments=(
        *_INPUTS,
        Pointer("embed", "T", ("D", "C")),
        Pointer("embed_bias", "fp32", ("D",)),
        Pointer("seed", "i64", ("1",)),
        Pointer("context", "T", ("B", "N", "D"), written=True),
        Pointer("attention", "T", ("B", "T", "N", "H"), written=True),
        Pointer("normaliser", "fp32", _PER_PIXEL, written=True),
        Pointer("mean_of", "fp32", _PER_PIXEL, written=True),
        Pointer("deviation_of", "fp32", _PER_PIXEL, written=True),
        *_SCALARS,
    ),
    grid=("cdiv(N, PIXELS)", "B"),
    variants=tuple(
        Variant({"T": dtype}, {**_UTAE, "ONE_PASS": one, "DROPOUT": 0})
        for dtype in ("fp32", "fp16", "bf16")
        for one in (1, 0)
    ),
    configure=_configure,
    admits={"T": ("fp32", "fp16", "bf16")},
)

BACKWARD = KernelSpec(
    name="temporal_attention_backward",
    function=temporal_attention_backward,
    arguments=(
        *_INPUTS,
        Pointer("embed_bias", "fp32", ("D",)),
        Pointer("seed", "i64", ("1",)),
        Pointer("normaliser", "fp32", _PER_PIXEL),
        Pointer("mean_of", "fp32", _PER_PIXEL),
        Pointer("deviation_of", "fp32", _PER_PIXEL),
        Pointer("pull", "T", ("B", "N", "H", "C")),
        Pointer("to_context", "T", ("B", "N", "D")),
        Pointer("to_attention", "T", ("B", "T", "N", "H")),
        Pointer("to_features", "T", ("B", "T", "N", "C"), written=True),
        Pointer("gathered", "T", ("B", "N", "H", "C"), written=True),
        Pointer("to_score", "fp32", (_PROGRAMS, "H", "C"), written=True),
        Pointer("to_score_position", "fp32", (_PROGRAMS, "D"), written=True),
        Pointer("to_norm_scale", "fp32", (_PROGRAMS, "C"), written=True),
        Pointer("to_norm_shift", "fp32", (_PROGRAMS, "C"), written=True),
        Pointer("to_embed_bias", "fp32", (_PROGRAMS, "D"), written=True),
        *_SCALARS,
    ),
    grid=("cdiv(N, PIXELS)", "B"),
    variants=tuple(Variant({"T": dtype}, {**_UTAE, "DROPOUT": 0}) for dtype in ("fp32", "fp16", "bf16")),
    configure=_configure_backward,
    admits={"T": ("fp32", "fp16", "bf16")},
)
