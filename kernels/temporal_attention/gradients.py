"""Triton kernel of `temporal_attention`'s gradients."""

from __future__ import annotations

import triton
import triton.language as tl

from .parts import by_date, centred, dot, drop, left, placed, read, rows, scores_of, to_channels, to_groups

__all__ = ["backward"]


@triton.jit
def _pulled(
    x, row, date, keep, position, term, raw, constant, pulling, pulling_constant, arrived, lse, to_attention, seed, b,
    pixel, N, dropout, DROPOUT: tl.constexpr,
):  # fmt: skip
    """Of some dates: the softmax [S, H], its gradient, and the weights after dropout."""
    H: tl.constexpr = raw.shape[0]
    share = tl.exp(scores_of(x, keep, raw, constant, term) - lse[None, :])
    place = row[:, None] * H + tl.arange(0, H)[None, :]
    pull = tl.load(to_attention + place, mask=keep[:, None], other=0.0).to(tl.float32)
    pull += dot(x, tl.trans(pulling)) + pulling_constant[None, :] + placed(position, arrived)
    if DROPOUT:
        factor = drop(tl.full(share.shape, 1.0, tl.float32), seed, b, date, pixel, N, dropout)
        return share, pull * factor, share * factor
    return share, pull, share


@triton.jit(do_not_specialize=["B", "T", "N"])
def backward(
    features, days, mask, norm_scale, norm_shift, score, score_position, score_bias, embed_bias, seed,
    normaliser, mean_of, deviation_of, pull, to_context, to_attention,
    to_features, gathered, to_score, to_score_position, to_norm_scale, to_norm_shift, to_embed_bias,
    B, T, N, ratio, ratio_rest, dropout,
    H: tl.constexpr, C: tl.constexpr, D: tl.constexpr, ONE_PASS: tl.constexpr, DROPOUT: tl.constexpr,
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
    weight = tl.load(score + of_weight)
    real = tl.zeros((S,), tl.float32)
    for start in range(0, T, S):
        some = start + tl.arange(0, S)
        real += tl.load(mask + b * T + some, mask=some < T, other=0).to(tl.float32)
    count = tl.maximum(tl.sum(real, axis=0) * (C // H), 1.0)
    if ONE_PASS:
        date, keep, position, term = by_date(
            days, mask, score_position, score_bias, b, 0, T, ratio, ratio_rest, H, P, S
        )
    sum_score, sum_position = tl.zeros((C, H), tl.float32), tl.zeros((P, H), tl.float32)
    sum_scale, sum_shift = tl.zeros((C,), tl.float32), tl.zeros((C,), tl.float32)
    sum_bias = tl.zeros((H, P), tl.float32)
    for pixel in tl.range(tl.program_id(0), N, tl.num_programs(0), disable_licm=True):
        here = b.to(tl.int64) * N + pixel
        lse, mean = tl.load(normaliser + here * H + head), tl.load(mean_of + here * H + head)
        deviation = tl.load(deviation_of + here * H + head)
        mean_c, deviation_c = to_channels(mean, C), to_channels(deviation, C)
        arrived = tl.load(to_context + here * D + of_head).to(tl.float32)  # [H, P]
        pulled = tl.load(pull + here * H * C + of_weight).to(tl.float32)  # [H, C]
        origin = left(features, mean_c)
        # of features that are not divided by their deviation
        raw, pulling = weight * (scale * deviation_c)[None, :], pulled * (scale * deviation_c)[None, :]
        constant = tl.sum(weight * shift[None, :] - raw * origin[None, :], axis=1)
        pulling_constant = tl.sum(pulled * shift[None, :] - pulling * origin[None, :], axis=1)
        pulling_constant += tl.sum(arrived * tl.load(embed_bias + of_head), axis=1)

        if ONE_PASS:
            row = rows(b, date, pixel, T, N)
            x = centred(read(features, row, keep, C), keep, mean_c)
            share, pull_of, weights = _pulled(
                x, row, date, keep, position, term, raw, constant, pulling, pulling_constant, arrived, lse,
                to_attention, seed, b, pixel, N, dropout, DROPOUT,
            )  # fmt: skip
            mixed = tl.sum(share * pull_of, axis=0)
            change = (share * (pull_of - mixed[None, :])).to(x.dtype)
            weights = weights.to(x.dtype)
            changed, held = dot(tl.trans(x), change), dot(tl.trans(x), weights)  # [C, H]
            changes, sums = tl.sum(change.to(tl.float32), axis=0), tl.sum(weights.to(tl.float32), axis=0)
            sum_position += dot(tl.trans(position.to(x.dtype)), change)
        else:
            mixed = tl.zeros((H,), tl.float32)
            for start in range(0, T, S):
                date, keep, position, term = by_date(
                    days, mask, score_position, score_bias, b, start, T, ratio, ratio_rest, H, P, S
                )
                row = rows(b, date, pixel, T, N)
                x = centred(read(features, row, keep, C), keep, mean_c)
                share, pull_of, weights = _pulled(
                    x, row, date, keep, position, term, raw, constant, pulling, pulling_constant, arrived, lse,
                    to_attention, seed, b, pixel, N, dropout, DROPOUT,
                )  # fmt: skip
                mixed += tl.sum(share * pull_of, axis=0)
            changed, held = tl.zeros((C, H), tl.float32), tl.zeros((C, H), tl.float32)
            changes, sums = tl.zeros((H,), tl.float32), tl.zeros((H,), tl.float32)
            for start in range(0, T, S):
                date, keep, position, term = by_date(
                    days, mask, score_position, score_bias, b, start, T, ratio, ratio_rest, H, P, S
                )
                row = rows(b, date, pixel, T, N)
                x = centred(read(features, row, keep, C), keep, mean_c)
                share, pull_of, weights = _pulled(
                    x, row, date, keep, position, term, raw, constant, pulling, pulling_constant, arrived, lse,
                    to_attention, seed, b, pixel, N, dropout, DROPOUT,
                )  # fmt: skip
                change = (share * (pull_of - mixed[None, :])).to(x.dtype)
                weights = weights.to(x.dtype)
                changed += dot(tl.trans(x), change)
                held += dot(tl.trans(x), weights)
                changes += tl.sum(change.to(tl.float32), axis=0)
                sums += tl.sum(weights.to(tl.float32), axis=0)
                sum_position += dot(tl.trans(position.to(x.dtype)), change)

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
        sum_bias += arrived * sums[:, None]
        sum_scale += along
        sum_shift += total
        # the normalisation takes away what moves a group's mean or deviation
        slope = deviation_c * deviation_c * to_channels(to_groups(scale * along, H) / count, C)
        level = deviation_c * to_channels(to_groups(scale * total, H) / count, C) - origin * slope
        if ONE_PASS:
            to_x = tl.dot(change, raw.to(x.dtype), input_precision="ieee")
            to_x = tl.dot(weights, pulling.to(x.dtype), to_x, input_precision="ieee")
            to_x -= level[None, :] + x.to(tl.float32) * slope[None, :]
            place = row[:, None] * C + channel[None, :]
            to_x = tl.where(keep[:, None], to_x, 0.0).to(to_features.dtype.element_ty)
            tl.store(to_features + place, to_x, mask=date[:, None] < T)
        else:
            for start in range(0, T, S):
                date, keep, position, term = by_date(
                    days, mask, score_position, score_bias, b, start, T, ratio, ratio_rest, H, P, S
                )
                row = rows(b, date, pixel, T, N)
                x = centred(read(features, row, keep, C), keep, mean_c)
                share, pull_of, weights = _pulled(
                    x, row, date, keep, position, term, raw, constant, pulling, pulling_constant, arrived, lse,
                    to_attention, seed, b, pixel, N, dropout, DROPOUT,
                )  # fmt: skip
                change = (share * (pull_of - mixed[None, :])).to(x.dtype)
                weights = weights.to(x.dtype)
                to_x = tl.dot(change, raw.to(x.dtype), input_precision="ieee")
                to_x = tl.dot(weights, pulling.to(x.dtype), to_x, input_precision="ieee")
                to_x -= level[None, :] + x.to(tl.float32) * slope[None, :]
                place = row[:, None] * C + channel[None, :]
                to_x = tl.where(keep[:, None], to_x, 0.0).to(to_features.dtype.element_ty)
                tl.store(to_features + place, to_x, mask=date[:, None] < T)
    program = b * tl.num_programs(0) + tl.program_id(0)
    tl.store(to_score + program * H * C + head[None, :] * C + channel[:, None], sum_score)
    tl.store(to_score_position + program * D + tl.trans(of_head), sum_position)
    tl.store(to_embed_bias + program * D + of_head, sum_bias)
    tl.store(to_norm_scale + program * C + channel, sum_scale)
    tl.store(to_norm_shift + program * C + channel, sum_shift)
