"""Masked temporal attention with one learned query per head, in plain PyTorch."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = [
    "EPSILON",
    "AttentionWeights",
    "absorb",
    "absorbed",
    "backward",
    "naive",
    "positions",
    "temporal_attention",
]

EPSILON = 1e-5
"""Added to the variance by the group normalisation in front of the attention."""


@dataclass(frozen=True)
class AttentionWeights:
    """Parameters of one temporal attention.

    C channels of the features, D of the embedding, H heads, K the width of a key. D and C are multiples of H.

    Attributes:
        norm_scale: [C] scale of the normalisation over (channels of the group, dates); H groups.
        norm_shift: [C] its shift.
        embed: [D, C] from features to embedding.
        embed_bias: [D].
        key: [H * K, D] from embedding to keys, heads outermost.
        key_bias: [H * K].
        query: [H, K] one learned query per head.
        period: of the slowest sinusoid of the positions, in days over 2 pi.
    """

    norm_scale: Tensor
    norm_shift: Tensor
    embed: Tensor
    embed_bias: Tensor
    key: Tensor
    key_bias: Tensor
    query: Tensor
    period: float = 1000.0


def positions(days: Tensor, *, width: int, period: float) -> Tensor:
    """Sinusoidal positions of dates, sine on even and cosine on odd entries.

    Args:
        days: [B, T] days from the reference date.
        width: entries per date.
        period: of the slowest sinusoid, in days over 2 pi.

    Returns:
        [B, T, width], equal for every head.
    """
    index = torch.arange(width, device=days.device)
    exponent = (2 * (index // 2)).to(days.dtype) / width
    angle = days[..., None] / period**exponent  # [B, T, D]
    return torch.where(index % 2 == 0, torch.sin(angle), torch.cos(angle))


def temporal_attention(
    features: Tensor, days: Tensor, mask: Tensor, *, weights: AttentionWeights, dropout: float = 0.0
) -> tuple[Tensor, Tensor]:
    """Weigh the dates of every pixel, without ever storing embeddings or keys.

    The learned queries are absorbed into the projections: with normalised features `x_t`, positions `p_t` and
    `r_h = K_h^T q_h / sqrt(K)`, the score of a date is `(W^T r_h) . x_t + r_h . (b + p_t) + q_h . c_h / sqrt(K)`,
    and the output of a head is `W_h (sum_t a_t x_t) + b_h sum_t a_t + sum_t a_t p_t`.

    Dates outside the mask count nowhere, neither in the statistics of the normalisation nor in the softmax. Where
    every date is masked, and with T = 0, the attention is zero everywhere and so is the context.

    Args:
        features: [B, T, C, Y, X]; squares must be finite, on masked dates too.
        days: [B, T] days from the reference date.
        mask: [B, T] true or 1 for a real date, false or 0 for padding.
        weights: parameters, of the features' dtype.
        dropout: probability with which a weight is dropped after the softmax; 0 outside of training.

    Returns:
        Context [B, D, Y, X], heads outermost among its channels, and attention [B, H, T, Y, X].

    Source: Sainte Fare Garnot and Landrieu, "Lightweight Temporal Self-Attention", 2020.
    """
    B, T, C, Y, X = features.shape
    H, K = weights.query.shape
    D = weights.embed.shape[0]
    if T == 0:
        return features.new_zeros(B, D, Y, X), features.new_zeros(B, H, T, Y, X)
    keep = mask.to(features.dtype)
    x = features.permute(0, 3, 4, 1, 2).reshape(B, Y * X, T, C)
    x = _normalise(x, keep, weights=weights)  # [B, N, T, C]
    position = positions(days.to(features.dtype), width=D // H, period=weights.period)  # [B, T, D / H]

    readout = (weights.query[:, :, None] * weights.key.view(H, K, D)).sum(1) / K**0.5  # [H, D]
    constant = (weights.query * weights.key_bias.view(H, K)).sum(1) / K**0.5 + readout @ weights.embed_bias  # [H]
    by_date = position @ readout.view(H, H, D // H).sum(1).T + constant  # [B, T, H]
    scores = x @ (readout @ weights.embed).T + by_date[:, None]  # [B, N, T, H]

    attention = _masked_softmax(scores, keep[:, None, :, None])
    attention = F.dropout(attention, dropout, training=dropout > 0)
    over_dates = attention.transpose(2, 3)  # [B, N, H, T]
    gathered = (over_dates @ x).transpose(1, 2)  # [B, H, N, C]
    context = gathered @ weights.embed.view(H, D // H, C).transpose(1, 2)  # [B, H, N, D / H]
    context = context + over_dates.sum(3).transpose(1, 2)[..., None] * weights.embed_bias.view(H, 1, D // H)
    context = context + (over_dates @ position[:, None]).transpose(1, 2)
    context = context.transpose(2, 3).reshape(B, D, Y, X)
    return context, attention.permute(0, 3, 2, 1).reshape(B, H, T, Y, X)


def naive(features: Tensor, days: Tensor, mask: Tensor, *, weights: AttentionWeights) -> tuple[Tensor, Tensor]:
    """The same as `temporal_attention`, sample by sample over real dates only, storing embeddings and keys.

    Args and returns as there; slow, and the truth of its tests.
    """
    B, T, _, Y, X = features.shape
    H, K = weights.query.shape
    D = weights.embed.shape[0]
    context = features.new_zeros(B, D, Y, X)
    attention = features.new_zeros(B, H, T, Y, X)
    for b in range(B):
        real = mask[b].bool().nonzero()[:, 0]
        if len(real) == 0:
            continue
        series = features[b, real].permute(2, 3, 1, 0).flatten(0, 1)  # [N, C, T]
        x = F.group_norm(series, H, weights.norm_scale, weights.norm_shift, EPSILON).transpose(1, 2)  # [N, T, C]
        position = positions(days[b : b + 1, real], width=D // H, period=weights.period).tile(1, 1, H)
        embedding = F.linear(x, weights.embed, weights.embed_bias) + position  # [N, T, D]
        N, S = embedding.shape[:2]
        keys = F.linear(embedding, weights.key, weights.key_bias).reshape(N, S, H, K)
        share = torch.einsum("nthk,hk->nht", keys, weights.query).div(K**0.5).softmax(2)  # [N, H, T]
        values = embedding.reshape(N, S, H, D // H)
        context[b] = torch.einsum("nht,nthd->hdn", share, values).reshape(D, Y, X)
        attention[b, :, real] = share.permute(1, 2, 0).reshape(H, S, Y, X)
    return context, attention


def _normalise(x: Tensor, keep: Tensor, *, weights: AttentionWeights) -> Tensor:
    """Normalise [B, N, T, C] per pixel over (channels of the group, real dates)."""
    B, N, T, C = x.shape
    groups = weights.query.shape[0]
    grouped = x.reshape(B, N, T, groups, C // groups)
    weight = keep[:, None, :, None, None]
    # at least one, so that a series without a real date divides by something
    count = (keep.sum(1) * (C // groups)).clamp(min=1)[:, None, None, None, None]
    mean = (grouped * weight).sum((2, 4), keepdim=True) / count
    centred = grouped - mean
    variance = (centred.square() * weight).sum((2, 4), keepdim=True) / count
    normal = (centred * torch.rsqrt(variance + EPSILON)).reshape(B, N, T, C)
    return normal * weights.norm_scale + weights.norm_shift


def _masked_softmax(scores: Tensor, keep: Tensor) -> Tensor:
    """Softmax over axis 2 among kept entries; zero where nothing is kept."""
    lowest = torch.finfo(scores.dtype).min
    return scores.masked_fill(keep == 0, lowest).softmax(2) * keep


def absorb(weights: AttentionWeights) -> tuple[Tensor, Tensor, Tensor]:
    """Take the queries into the projections, in float32 or better.

    Args:
        weights: parameters.

    Returns:
        What a score takes from normalised features [H, C], from a position [H, D / H], and from neither [H].
    """
    H, K = weights.query.shape
    D = weights.embed.shape[0]
    query, key, key_bias, embed, embed_bias = (
        each.double() if each.dtype == torch.float64 else each.float()
        for each in (weights.query, weights.key, weights.key_bias, weights.embed, weights.embed_bias)
    )
    readout = (query[:, :, None] * key.view(H, K, D)).sum(1) / K**0.5  # [H, D]
    constant = (query * key_bias.view(H, K)).sum(1) / K**0.5 + readout @ embed_bias
    return readout @ embed, readout.view(H, H, D // H).sum(1), constant


@dataclass(frozen=True)
class _Absorbed:
    """What forward and backward have in common: N pixels, P = D / H, all in the dtype of computation."""

    keep: Tensor  # [B, T]
    x: Tensor  # [B, T, N, C] divided by its deviation, zero on masked dates
    normal: Tensor  # [B, T, N, C] scaled and shifted
    mean: Tensor  # [B, N, H]
    deviation: Tensor  # [B, N, H], one over it
    position: Tensor  # [B, T, P]
    highest: Tensor  # [B, N, H] log of the sum of exponentials
    share: Tensor  # [B, T, N, H] before dropout
    factor: Tensor  # [B, T, N, H] of dropout, or a one


def _compute(
    features: Tensor,
    days: Tensor,
    mask: Tensor,
    norm_scale: Tensor,
    norm_shift: Tensor,
    score: Tensor,
    score_position: Tensor,
    score_bias: Tensor,
    seed: Tensor,
    period: float,
    dropout: float,
) -> _Absorbed:
    B, T, Y, X, C = features.shape
    H = score.shape[0]
    keep = mask.to(score.dtype)
    real = keep[:, :, None, None, None]
    grouped = features.to(score.dtype).reshape(B, T, Y * X, H, C // H).masked_fill(real == 0, 0)
    count = (keep.sum(1) * (C // H)).clamp(min=1)[:, None, None]
    mean = grouped.sum((1, 4)) / count  # [B, N, H]
    centred = (grouped - mean[:, None, :, :, None]) * real
    deviation = torch.rsqrt(centred.square().sum((1, 4)) / count + EPSILON)
    x = (centred * deviation[:, None, :, :, None]).reshape(B, T, Y * X, C)
    normal = (x * norm_scale + norm_shift) * real[..., 0]
    position = positions(days.to(score.dtype), width=score_position.shape[1], period=period)
    scores = normal @ score.T + (position @ score_position.T + score_bias)[:, :, None]
    masked = real[..., 0] == 0
    highest = scores.masked_fill(masked, float("-inf")).logsumexp(1)
    highest = torch.where(torch.isfinite(highest), highest, 0)
    share = (scores - highest[:, None]).masked_fill(masked, float("-inf")).exp()
    factor = torch.ones((), dtype=score.dtype)
    if dropout > 0:
        generator = torch.Generator().manual_seed(int(seed))
        factor = (torch.rand(share.shape, generator=generator) >= dropout).to(score.dtype) / (1 - dropout)
    return _Absorbed(keep, x, normal, mean, deviation, position, highest, share, factor)


def absorbed(
    features: Tensor,
    days: Tensor,
    mask: Tensor,
    norm_scale: Tensor,
    norm_shift: Tensor,
    score: Tensor,
    score_position: Tensor,
    score_bias: Tensor,
    embed: Tensor,
    embed_bias: Tensor,
    seed: Tensor,
    period: float,
    dropout: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """`temporal_attention` as the custom op has it: absorbed weights, channels and heads last.

    Args:
        features: [B, T, Y, X, C].
        days: [B, T].
        mask: [B, T], 1 or 0.
        norm_scale: [C].
        norm_shift: [C].
        score: [H, C], with the two that follow as `absorb` gives them.
        score_position: [H, D / H].
        score_bias: [H].
        embed: [D, C].
        embed_bias: [D].
        seed: [1] of the dropout.
        period: of the slowest sinusoid, in days over 2 pi.
        dropout: probability of dropping a weight.

    Returns:
        Context [B, Y, X, D], attention [B, T, Y, X, H], and what the gradients need of a pixel and head, [B, Y, X, H]
        each: the log of the softmax's sum, the mean of the group, and one over its deviation.
    """
    given = (features, days, mask, norm_scale, norm_shift, score, score_position, score_bias, seed, period, dropout)
    made = _compute(*given)
    B, T, Y, X, C = features.shape
    H, P = score_position.shape
    attention = made.share * made.factor
    gathered = torch.einsum("btnh,btnc->bnhc", attention, made.normal)
    context = torch.einsum("bnhc,hpc->bnhp", gathered, embed.to(score.dtype).view(H, P, C))
    context = context + attention.sum(1)[..., None] * embed_bias.view(H, P)
    context = context + torch.einsum("btnh,btp->bnhp", attention, made.position)
    normaliser, mean, deviation = (
        each.reshape(B, Y, X, H).contiguous() for each in (made.highest, made.mean, made.deviation)
    )
    return (
        context.reshape(B, Y, X, H * P).to(features.dtype),
        attention.reshape(B, T, Y, X, H).to(features.dtype),
        normaliser,
        mean,
        deviation,
    )


def backward(
    features: Tensor,
    days: Tensor,
    mask: Tensor,
    norm_scale: Tensor,
    norm_shift: Tensor,
    score: Tensor,
    score_position: Tensor,
    score_bias: Tensor,
    embed: Tensor,
    embed_bias: Tensor,
    seed: Tensor,
    to_context: Tensor,
    to_attention: Tensor,
    period: float,
    dropout: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of `absorbed`.

    Args:
        features: [B, T, Y, X, C].
        days: [B, T].
        mask: [B, T], 1 or 0.
        norm_scale: [C].
        norm_shift: [C].
        score: [H, C].
        score_position: [H, D / H].
        score_bias: [H].
        embed: [D, C].
        embed_bias: [D].
        seed: [1] of the dropout.
        to_context: gradient of the context.
        to_attention: gradient of the attention.
        period: of the slowest sinusoid, in days over 2 pi.
        dropout: probability of dropping a weight.

    Returns:
        Gradients of features, norm_scale, norm_shift, score, score_position, embed and embed_bias; that of score_bias
        is zero, as what all dates' scores have in common changes no share of them.
    """
    given = (features, days, mask, norm_scale, norm_shift, score, score_position, score_bias, seed, period, dropout)
    made = _compute(*given)
    B, T, Y, X, C = features.shape
    H, P = score_position.shape
    heads = embed.to(score.dtype).view(H, P, C)
    arrived = to_context.to(score.dtype).reshape(B, Y * X, H, P)
    attention = made.share * made.factor

    pull = torch.einsum("bnhp,hpc->bnhc", arrived, heads)
    to_weight = to_attention.to(score.dtype).reshape(B, T, Y * X, H) + torch.einsum(
        "bnhc,btnc->btnh", pull, made.normal
    )
    to_weight = to_weight + (arrived * embed_bias.view(H, P)).sum(3)[:, None]
    to_weight = (to_weight + torch.einsum("bnhp,btp->btnh", arrived, made.position)) * made.factor
    change = made.share * (to_weight - (made.share * to_weight).sum(1, keepdim=True))  # of the scores

    to_normal = change @ score + torch.einsum("btnh,bnhc->btnc", attention, pull)
    scaled = (to_normal * norm_scale).reshape(B, T, Y * X, H, C // H)
    x = made.x.reshape(scaled.shape)
    real = made.keep[:, :, None, None, None]
    count = (made.keep.sum(1) * (C // H)).clamp(min=1)[:, None, None, None, None]
    level = (scaled * real).sum((1, 4), keepdim=True) / count
    slope = (scaled * x).sum((1, 4), keepdim=True) / count
    to_features = (scaled - level - x * slope) * made.deviation[:, None, :, :, None] * real
    gathered = torch.einsum("btnh,btnc->bnhc", attention, made.normal)
    return (
        to_features.reshape(features.shape).to(features.dtype),
        (to_normal * made.x).sum((0, 1, 2)),
        to_normal.sum((0, 1, 2)),
        torch.einsum("btnh,btnc->hc", change, made.normal),
        torch.einsum("btnh,btp->hp", change, made.position),
        torch.einsum("bnhp,bnhc->hpc", arrived, gathered).reshape(embed.shape).to(embed.dtype),
        (attention.sum(1)[..., None] * arrived).sum((0, 1)).reshape(-1),
    )
