"""Triton kernel of `temporal_attention`'s gradients."""

from __future__ import annotations

import triton
import triton.language as tl

from .parts import by_date, centred, dot, drop, left, placed, read, rows, scores_of, to_channels, to_groups

__all__ = ["temporal_attention_backward"]


@triton.jit
def _share(x, keep, term, raw, constant, lse):
    """The softmax [S, H] of some dates, made again."""
    return tl.exp(scores_of(x, keep, raw, constant, term) - lse[None, :])


@triton.jit
def _asked(pull, to_context, here, bias, factor, shift, origin, H: tl.constexpr, C: tl.constexpr, P: tl.constexpr):
    """What the context's gradient asks of a pixel's positions [H, P] and normalised features [H, C].

    And the latter of features as they come: what they are multiplied with [H, C] and what is added [H].
    """
    head = tl.arange(0, H)[:, None]
    arrived = tl.load(to_context + (here * H + head) * P + tl.arange(0, P)[None, :])
    pulled = tl.load(pull + (here * H + head) * C + tl.arange(0, C)[None, :])
    wide = pulled.to(tl.float32)
    pulling = (wide * factor[None, :]).to(pull.dtype.element_ty)
    constant = tl.sum(wide * shift[None, :] - pulling.to(tl.float32) * origin[None, :], axis=1)
    constant += tl.sum(arrived.to(tl.float32) * bias, axis=1)
    if P < 16:  # too few for tensor cores
        arrived = arrived.to(tl.float32)
    return arrived, pulling, constant


@triton.jit
def _pulled(
    x, share, row, date, keep, position, pulling, constant, arrived, to_attention, seed, b, pixel, N, dropout,
    DROPOUT: tl.constexpr,
):  # fmt: skip
    """The gradient [S, H] of some dates' softmax, and the weights after dropout."""
    H: tl.constexpr = share.shape[1]
    place = row[:, None] * H + tl.arange(0, H)[None, :]
    pull = tl.load(to_attention + place, mask=keep[:, None], other=0.0).to(tl.float32)
    pull += dot(x, tl.trans(pulling)) + constant[None, :] + placed(position, arrived)
    if DROPOUT:
        factor = drop(tl.full(share.shape, 1.0, tl.float32), seed, b, date, pixel, N, dropout)
        pull *= factor
        share *= factor
    return pull, share


@triton.jit
def _made_again(
    features, days, mask, score_position, score_bias, to_attention, seed, b, pixel, start, T, N, ratio, ratio_rest,
    dropout, mean_c, raw, constant, lse, pulling, asked, arrived,
    H: tl.constexpr, C: tl.constexpr, P: tl.constexpr, S: tl.constexpr, DROPOUT: tl.constexpr,
):  # fmt: skip
    """What every pass needs of S dates from `start` on: themselves, features, softmax, its gradient and the weights."""
    date, keep, position, term = by_date(
        days, mask, score_position, score_bias, b, start, T, ratio, ratio_rest, H, P, S
    )
    row = rows(b, date, pixel, T, N)
    x = centred(read(features, row, keep, C), keep, mean_c)
    share = _share(x, keep, term, raw, constant, lse)
    pull_of, weights = _pulled(
        x, share, row, date, keep, position, pulling, asked, arrived, to_attention, seed, b, pixel, N, dropout, DROPOUT
    )
    return date, keep, position, row, x, share, pull_of, weights


@triton.jit
def _store_features(to_features, x, change, weights, raw, pulling, level, slope, row, keep, date, T):
    """Writes the features' gradient [S, C]; zero where a date is not real."""
    C: tl.constexpr = x.shape[1]
    pushed = dot(tl.trans(raw.to(x.dtype)), tl.trans(change))  # [C, S]
    pushed += dot(tl.trans(pulling), tl.trans(weights))
    pushed -= level[:, None] + tl.trans(x).to(tl.float32) * slope[:, None]
    pushed = tl.where(keep[:, None], tl.trans(pushed.to(x.dtype)), 0.0).to(to_features.dtype.element_ty)
    place = row[:, None] * C + tl.arange(0, C)[None, :]
    tl.store(to_features + place, pushed, mask=date[:, None] < T)


@triton.jit(do_not_specialize=["B", "T", "N"])
def temporal_attention_backward(
    features, days, mask, norm_scale, norm_shift, score, score_position, score_bias, embed_bias, seed,
    normaliser, mean_of, deviation_of, pull, to_context, to_attention,
    to_features, gathered, to_score, to_score_position, to_norm_scale, to_norm_shift, to_embed_bias,
    B, T, N, ratio, ratio_rest, dropout,
    H: tl.constexpr, C: tl.constexpr, D: tl.constexpr, DROPOUT: tl.constexpr,
    PIXELS: tl.constexpr, S: tl.constexpr,
):  # fmt: skip
    """Gradients of about PIXELS pixels of one sample; those of parameters are summed over these pixels.

    `pull` is what the context's gradient asks of a head's gathered features: the embedding's transpose times it.
    """
    P: tl.constexpr = D // H
    b = tl.program_id(1)
    head, channel = tl.arange(0, H), tl.arange(0, C)
    of_head = head[:, None] * P + tl.arange(0, P)[None, :]  # [H, P]
    of_weight = head[:, None] * C + channel[None, :]  # [H, C]
    scale, shift = tl.load(norm_scale + channel), tl.load(norm_shift + channel)
    bias = tl.load(embed_bias + of_head)
    real = tl.zeros((S,), tl.float32)
    for start in tl.range(0, T, S, disable_licm=True):
        some = start + tl.arange(0, S)
        real += tl.load(mask + b * T + some, mask=some < T, other=0).to(tl.float32)
    count = tl.maximum(tl.sum(real, axis=0) * (C // H), 1.0)
    sum_score, sum_position = tl.zeros((C, H), tl.float32), tl.zeros((P, H), tl.float32)
    sum_scale, sum_shift = tl.zeros((C,), tl.float32), tl.zeros((C,), tl.float32)
    sum_bias = tl.zeros((H, P), tl.float32)
    for pixel in tl.range(tl.program_id(0), N, tl.num_programs(0), disable_licm=True):
        here = b.to(tl.int64) * N + pixel
        lse, mean = tl.load(normaliser + here * H + head), tl.load(mean_of + here * H + head)
        deviation = tl.load(deviation_of + here * H + head)
        mean_c, deviation_c = to_channels(mean, C), to_channels(deviation, C)
        origin = left(features, mean_c)
        factor = scale * deviation_c
        weight = tl.load(score + of_weight)
        raw = weight * factor[None, :]  # of features that are not divided by their deviation
        constant = tl.sum(weight * shift[None, :] - raw * origin[None, :], axis=1)

        arrived, pulling, asked = _asked(pull, to_context, here, bias, factor, shift, origin, H, C, P)
        mixed = tl.zeros((H,), tl.float32)
        for start in tl.range(0, T, S, disable_licm=True):
            date, keep, position, row, x, share, pull_of, weights = _made_again(
                features, days, mask, score_position, score_bias, to_attention, seed, b, pixel, start, T, N, ratio,
                ratio_rest, dropout, mean_c, raw, constant, lse, pulling, asked, arrived, H, C, P, S, DROPOUT,
            )  # fmt: skip
            mixed += tl.sum(share * pull_of, axis=0)
        changed, held = tl.zeros((C, H), tl.float32), tl.zeros((C, H), tl.float32)
        changes, sums = tl.zeros((H,), tl.float32), tl.zeros((H,), tl.float32)
        for start in tl.range(0, T, S, disable_licm=True):
            date, keep, position, row, x, share, pull_of, weights = _made_again(
                features, days, mask, score_position, score_bias, to_attention, seed, b, pixel, start, T, N, ratio,
                ratio_rest, dropout, mean_c, raw, constant, lse, pulling, asked, arrived, H, C, P, S, DROPOUT,
            )  # fmt: skip
            change = (share * (pull_of - mixed[None, :])).to(x.dtype)
            weights = weights.to(x.dtype)
            changed += dot(tl.trans(x), change)
            held += dot(tl.trans(x), weights)
            changes += tl.sum(change.to(tl.float32), axis=0)
            sums += tl.sum(weights.to(tl.float32), axis=0)
            sum_position += dot(tl.trans(position.to(x.dtype)), change)

        # read again rather than kept in registers all along
        weight = tl.load(score + of_weight)
        pulled = tl.load(pull + here * H * C + of_weight).to(tl.float32)
        # of normalised features, before scale and shift
        changed = (changed - origin[:, None] * changes[None, :]) * deviation_c[:, None]
        held = (held - origin[:, None] * sums[None, :]) * deviation_c[:, None]
        tl.store(
            gathered + here * H * C + head[None, :] * C + channel[:, None],
            (held * scale[:, None] + shift[:, None] * sums[None, :]).to(gathered.dtype.element_ty),
        )
        along = tl.sum(changed * tl.trans(weight) + held * tl.trans(pulled), axis=1)  # [C]
        total = tl.sum(tl.trans(weight) * changes[None, :] + tl.trans(pulled) * sums[None, :], axis=1)
        sum_score += changed * scale[:, None] + shift[:, None] * changes[None, :]
        sum_bias += arrived.to(tl.float32) * sums[:, None]
        sum_scale += along
        sum_shift += total
        # the normalisation takes away what moves a group's mean or deviation
        slope = deviation_c * deviation_c * to_channels(to_groups(scale * along, H) / count, C)
        level = deviation_c * to_channels(to_groups(scale * total, H) / count, C) - origin * slope
        for start in tl.range(0, T, S, disable_licm=True):
            date, keep, position, row, x, share, pull_of, weights = _made_again(
                features, days, mask, score_position, score_bias, to_attention, seed, b, pixel, start, T, N, ratio,
                ratio_rest, dropout, mean_c, raw, constant, lse, pulling, asked, arrived, H, C, P, S, DROPOUT,
            )  # fmt: skip
            change = (share * (pull_of - mixed[None, :])).to(x.dtype)
            weights = weights.to(x.dtype)
            _store_features(
                to_features, x, change, weights, raw, pulling, level, slope, row, keep, date, T
            )  # fmt: skip
    program = b * tl.num_programs(0) + tl.program_id(0)
    tl.store(to_score + program * H * C + head[None, :] * C + channel[:, None], sum_score)
    tl.store(to_score_position + program * D + tl.trans(of_head), sum_position)
    tl.store(to_embed_bias + program * D + of_head, sum_bias)
    tl.store(to_norm_scale + program * C + channel, sum_scale)
    tl.store(to_norm_shift + program * C + channel, sum_shift)
