"""What the kernels of `temporal_attention` are made of: dates, positions, statistics, products and dropout.

C channels in H groups, one per head; S dates at a time; P = D / H entries of a head.
"""

from __future__ import annotations

import triton
import triton.language as tl

__all__ = [
    "by_date",
    "centred",
    "dot",
    "drop",
    "joined",
    "kept",
    "left",
    "moments",
    "placed",
    "read",
    "rows",
    "scores_of",
    "to_channels",
    "to_groups",
]


@triton.jit
def kept(mask, b, date, T):
    """Which of some dates [S] are real."""
    return tl.load(mask + b * T + date, mask=date < T, other=0) != 0


@triton.jit
def rows(b, date, pixel, T, N):
    """Row [S] of a pixel at some dates in [B, T, N]; one sample has fewer than 2^31 rows."""
    return b.to(tl.int64) * T * N + (date * N + pixel)


@triton.jit
def to_channels(groups, C: tl.constexpr):
    """[H] to [C]."""
    H: tl.constexpr = groups.shape[0]
    return tl.reshape(tl.broadcast_to(groups[:, None], (H, C // H)), (C,))


@triton.jit
def to_groups(channels, H: tl.constexpr):
    """[C] to sums [H]."""
    return tl.sum(tl.reshape(channels, (H, channels.shape[0] // H)), axis=1)


@triton.jit
def moments(x, keep, H: tl.constexpr):
    """Means [H] of the groups of x [S, C] over real dates, sums of squares around them [H], and how many they are."""
    C: tl.constexpr = x.shape[1]
    count = tl.sum(keep.to(tl.float32), axis=0) * (C // H)
    wide = x.to(tl.float32)  # zero where not real
    mean = to_groups(tl.sum(wide, axis=0), H) / tl.maximum(count, 1.0)
    centred = tl.where(keep[:, None], wide - to_channels(mean, C)[None, :], 0.0)
    return mean, to_groups(tl.sum(centred * centred, axis=0), H), count


@triton.jit
def joined(mean, squares, count, mean_too, squares_too, count_too):
    """Moments of two sets together, without the loss of subtracting large squares."""
    both = count + count_too
    share = count_too / tl.maximum(both, 1.0)
    apart = mean_too - mean
    return mean + apart * share, squares + squares_too + apart * apart * (count * share), both


@triton.jit
def dot(left, right):
    """Left @ right in float32; where one is float32 and the other is not, as exact as if both were."""
    M: tl.constexpr = left.shape[0]
    K: tl.constexpr = left.shape[1]
    N: tl.constexpr = right.shape[1]
    STEP: tl.constexpr = 64 if M > 16 else 8
    if left.dtype == right.dtype and left.dtype == tl.float32 and K >= 128:
        # a thread takes all K entries of its rows and columns at once: in parts they fit in its registers
        parts = tl.permute(tl.reshape(left, (M, K // STEP, STEP)), (1, 0, 2))
        product = tl.sum(tl.dot(parts, tl.reshape(right, (K // STEP, STEP, N)), input_precision="ieee"), axis=0)
    elif left.dtype == right.dtype:
        product = tl.dot(left, right, input_precision="ieee")
    elif left.dtype == tl.float32:
        high = left.to(right.dtype)
        product = tl.dot((left - high.to(tl.float32)).to(right.dtype), right)
        product = tl.dot(high, right, product)
    else:
        high = right.to(left.dtype)
        product = tl.dot(left, (right - high.to(tl.float32)).to(left.dtype))
        product = tl.dot(left, high, product)
    return product


@triton.jit
def _head(value):
    """The leading 12 bits of float32 numbers: products with integers of 12 bits are exact."""
    return (value.to(tl.int32, bitcast=True) & -4096).to(tl.float32, bitcast=True)


@triton.jit
def _fraction(turns):
    return turns - tl.floor(turns + 0.5)


@triton.jit
def _sine(turns):
    """sin(2 pi turns), by its series: sines of libraries bring a table in local memory for large angles."""
    turns = _fraction(turns)
    turns = tl.where(turns > 0.25, 0.5 - turns, tl.where(turns < -0.25, -0.5 - turns, turns))
    square = turns * turns
    series = 3.8199525848482821
    series = series * square - 15.094642576822990
    series = series * square + 42.058693944897655
    series = series * square - 76.705859753061386
    series = series * square + 81.605249276075055
    series = series * square - 41.341702240399760
    return (series * square + 6.2831853071795865) * turns


@triton.jit
def _positions(days, ratio, ratio_rest, P: tl.constexpr):
    """Sines and cosines [S, P] of days [S]; every pair turns `ratio` times as fast as the one before it.

    Angles are turns, reduced to a fraction before they are rounded: three parts of the rate times the days.
    """
    entry = tl.arange(0, P)
    rate = tl.full((P,), 0.15915494309189535, tl.float64)  # of the first pair: 1 / (2 pi) turns per day
    power = tl.full((P,), 1.0, tl.float64) * ratio + ratio_rest
    for bit in tl.static_range(8):
        rate = tl.where((entry // 2 >> bit) & 1 == 1, rate * power, rate)
        power *= power
    first = _head(rate.to(tl.float32))
    rest = rate - first.to(tl.float64)
    second = _head(rest.to(tl.float32))
    third = (rest - second.to(tl.float64)).to(tl.float32)
    day = days[:, None]
    turns = _fraction(day * first[None, :]) + _fraction(day * second[None, :]) + day * third[None, :]
    return _sine(turns + tl.where(entry % 2 == 0, 0.0, 0.25)[None, :])


@triton.jit
def drop(attention, seed, b, date, pixel, N, dropout):
    """Weights [S, H] after dropout; the same seed drops the same ones."""
    H: tl.constexpr = attention.shape[1]
    key = tl.load(seed) + b.to(tl.int64) * N + pixel
    place = date[:, None] * H + tl.arange(0, H)[None, :]
    return tl.where(tl.rand(key, place) >= dropout, attention / (1.0 - dropout), 0.0)


@triton.jit
def placed(position, entries):
    """Products [S, H] of positions [S, P] and every head's entries [H, P]."""
    if position.shape[1] < 8:  # too few for a product of matrices
        product = tl.sum(position[:, None, :] * entries[None, :, :], axis=2)
    else:
        product = dot(position, tl.trans(entries))
    return product


@triton.jit
def by_date(days, mask, score_position, score_bias, b, start, T, ratio, ratio_rest, H: tl.constexpr, P: tl.constexpr,
             S: tl.constexpr):  # fmt: skip
    """Dates [S], whether they are real, their positions [S, P] and the part of the scores that they make [S, H]."""
    date = start + tl.arange(0, S)
    keep = kept(mask, b, date, T)
    position = _positions(tl.load(days + b * T + date, mask=keep, other=0.0), ratio, ratio_rest, P)
    head = tl.arange(0, H)
    readout = tl.load(score_position + head[:, None] * P + tl.arange(0, P)[None, :])
    term = placed(position, readout)
    return date, keep, position, term + tl.load(score_bias + head)[None, :]


@triton.jit
def read(features, row, keep, C: tl.constexpr):
    """A pixel's features [S, C] at some dates, zero where they are not real."""
    return tl.load(features + row[:, None] * C + tl.arange(0, C)[None, :], mask=keep[:, None], other=0.0)


@triton.jit
def centred(x, keep, mean):
    """Features [S, C] without their mean [C] where they are float32; shorter ones, which are exact, as they come."""
    if x.dtype == tl.float32:
        x = tl.where(keep[:, None], x - mean[None, :], 0.0)
    return x


@triton.jit
def left(features, mean):
    """What `centred` leaves of the mean."""
    if features.dtype.element_ty == tl.float32:
        mean = tl.zeros_like(mean)
    return mean


@triton.jit
def scores_of(x, keep, weight, constant, term):
    """Scores [S, H] of features [S, C]; less than any number where a date is not real."""
    return tl.where(keep[:, None], dot(x, tl.trans(weight)) + constant[None, :] + term, float("-inf"))
