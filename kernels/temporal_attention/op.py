"""The custom op `uperfuse::temporal_attention`: checks, launch, gradients."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ...engine.launching import attention_limit, attention_numbers, attention_request, dates_limit
from .. import dispatch
from ..launch import dtype_name, launch
from ..spec import Variant
from . import reference
from .reference import AttentionWeights

__all__ = ["temporal_attention"]


def temporal_attention(
    features: Tensor, days: Tensor, mask: Tensor, *, weights: AttentionWeights, dropout: float = 0.0
) -> tuple[Tensor, Tensor]:
    """Weigh the dates of every pixel, with one learned query per head.

    Dates outside the mask count nowhere, whatever finite values they hold. Where every date is masked, and with T = 0,
    the attention is zero everywhere and so is the context. On CUDA one kernel does it, reading features that lie
    channels last in place, and once where there are 64 dates or fewer; elsewhere the plain-PyTorch reference runs.

    Args:
        features: [B, T, C, Y, X]; on CUDA float32, float16 or bfloat16, and T at most 256.
        days: [B, T] days from the reference date.
        mask: [B, T] true or 1 for a real date, false or 0 for padding.
        weights: parameters. On CUDA H, C and D are powers of two, 16 <= H <= C <= 256 and H <= D <= 256.
        dropout: probability with which a weight is dropped after the softmax, below 1; 0 outside of training.

    Returns:
        Context [B, D, Y, X], heads outermost among its channels, and attention [B, H, T, Y, X].

    Raises:
        ValueError: shapes that do not belong together, or that the kernel does not take.
        TypeError: a dtype that the kernel does not take.

    Source: Sainte Fare Garnot and Landrieu, "Lightweight Temporal Self-Attention", 2020.
    """
    _check(features, days, mask, weights=weights, dropout=dropout)
    if features.shape[1] == 0 or not dispatch.fused(features):
        return reference.temporal_attention(features, days, mask, weights=weights, dropout=dropout)
    _check_fused(features, weights=weights)
    with torch.autocast(features.device.type, enabled=False):
        score, score_position, score_bias = reference.absorb(weights)
        embed = weights.embed.to(features.dtype).contiguous()
        norm_scale, norm_shift, embed_bias = (
            each.float().contiguous() for each in (weights.norm_scale, weights.norm_shift, weights.embed_bias)
        )
    seed = features.new_zeros(1, dtype=torch.int64)
    if dropout > 0:
        seed = torch.randint(0, 2**31 - 1, (1,), device=features.device)
    context, attention, *_ = torch.ops.uperfuse.temporal_attention(
        features.permute(0, 1, 3, 4, 2).contiguous(),
        days.detach().float().contiguous(),
        mask.detach().ne(0).to(torch.uint8).contiguous(),
        norm_scale,
        norm_shift,
        score,
        score_position,
        score_bias,
        embed,
        embed_bias,
        seed,
        weights.period,
        dropout,
    )
    return context.permute(0, 3, 1, 2), attention.permute(0, 4, 1, 2, 3)


def _run(
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
    """[B, T, Y, X, C] to [B, Y, X, D], [B, T, Y, X, H], and log-sum-exps, means and 1 / deviations [B, Y, X, H]."""
    from .kernel import FORWARD

    inputs = (features, days, mask, norm_scale, norm_shift, score, score_position, score_bias)
    outputs: tuple[Tensor, Tensor, Tensor, Tensor, Tensor] = _empty(*inputs, embed, embed_bias, seed, period, dropout)
    arguments: dict[str, Any] = dict(zip(_INPUTS, inputs, strict=True)) | {
        "embed": embed,
        "embed_bias": embed_bias,
        "seed": seed,
    }
    arguments |= dict(zip(("context", "attention", *_STATISTICS), outputs, strict=True))
    request = attention_request(
        heads=score.shape[0],
        channels=score.shape[1],
        embedding=embed.shape[0],
        dtype=dtype_name(features),
        dates=features.shape[1],
        dropout=dropout > 0,
    )
    arguments |= _numbers(features, score_position, period=period, dropout=dropout)
    launch(FORWARD, variant=Variant.of(request), arguments=arguments)
    return outputs


_forward = torch.library.custom_op("uperfuse::temporal_attention", _run, mutates_args=(), device_types="cuda")


@_forward.register_kernel("cpu")
def _(*inputs: Any) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    return _run(*inputs) if dispatch.interpreting() else reference.absorbed(*inputs)


@_forward.register_fake
def _empty(features: Tensor, *rest: Any) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    B, T, Y, X, _ = features.shape
    score, embed = rest[4], rest[7]
    H = score.shape[0]
    normaliser, mean, deviation = (features.new_empty(B, Y, X, H, dtype=score.dtype) for _ in range(3))
    return (
        features.new_empty(B, Y, X, embed.shape[0]),
        features.new_empty(B, T, Y, X, H),
        normaliser,
        mean,
        deviation,
    )


def _run_backward(
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
    normaliser: Tensor,
    mean_of: Tensor,
    deviation_of: Tensor,
    to_context: Tensor,
    to_attention: Tensor,
    period: float,
    dropout: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of features, scale, shift, score, its position's part, embedding and its bias."""
    from .kernel import BACKWARD, BACKWARD_PIXELS

    B, _, Y, X, C = features.shape
    H, D = score.shape[0], embed.shape[0]
    of_heads = to_context.reshape(B * Y * X, H, D // H).transpose(0, 1)  # [H, B * N, P]
    pull = torch.bmm(of_heads, embed.view(H, D // H, C)).transpose(0, 1).contiguous()  # [B * N, H, C]
    gathered = torch.empty_like(pull)
    to_features = torch.empty_like(features)
    programs = B * -(-Y * X // BACKWARD_PIXELS)
    sums = {
        "to_score": score.new_empty(programs, H, C),
        "to_score_position": score.new_empty(programs, *score_position.shape),
        "to_norm_scale": score.new_empty(programs, C),
        "to_norm_shift": score.new_empty(programs, C),
        "to_embed_bias": score.new_empty(programs, D),
    }
    inputs = (features, days, mask, norm_scale, norm_shift, score, score_position, score_bias)
    arguments: dict[str, Any] = dict(zip(_INPUTS, inputs, strict=True)) | {
        "embed_bias": embed_bias,
        "seed": seed,
        "pull": pull,
    }
    arguments |= dict(zip(_STATISTICS, (normaliser, mean_of, deviation_of), strict=True)) | sums
    arguments |= {"to_context": to_context, "to_attention": to_attention}
    arguments |= {"to_features": to_features, "gathered": gathered}
    variant = Variant({"T": dtype_name(features)}, {"H": H, "C": C, "D": D, "DROPOUT": int(dropout > 0)})
    arguments |= _numbers(features, score_position, period=period, dropout=dropout)
    launch(BACKWARD, variant=variant, arguments=arguments)
    to_embed = torch.bmm(of_heads.transpose(1, 2), gathered.transpose(0, 1)).reshape(D, C)
    to_score, to_position, to_scale, to_shift, to_bias = (each.sum(0) for each in sums.values())
    return to_features, to_scale, to_shift, to_score, to_position, to_embed, to_bias


_backward = torch.library.custom_op(
    "uperfuse::temporal_attention_backward", _run_backward, mutates_args=(), device_types="cuda"
)


@_backward.register_kernel("cpu")
def _(*inputs: Any) -> tuple[Tensor, ...]:
    # the reference makes the statistics again
    return _run_backward(*inputs) if dispatch.interpreting() else reference.backward(*inputs[:11], *inputs[14:])


@_backward.register_fake
def _empty_gradients(*inputs: Any) -> tuple[Tensor, ...]:
    features, _, _, norm_scale, norm_shift, score, score_position, _, embed, embed_bias = inputs[:10]
    differentiable = (features, norm_scale, norm_shift, score, score_position, embed, embed_bias)
    return tuple(torch.empty_like(each) for each in differentiable)


def _remember(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    *tensors, ctx.period, ctx.dropout = inputs
    ctx.save_for_backward(*tensors, *output[2:])


def _differentiate(ctx: Any, to_context: Tensor, to_attention: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
    saved = ctx.saved_tensors
    to_features, to_scale, to_shift, to_score, to_position, to_embed, to_bias = (
        torch.ops.uperfuse.temporal_attention_backward(
            *saved, to_context.contiguous(), to_attention.contiguous(), ctx.period, ctx.dropout
        )
    )
    # what all dates' scores have in common changes no share of them
    to_score_bias = torch.zeros_like(saved[7])
    in_order = (to_features, None, None, to_scale, to_shift, to_score, to_position, to_score_bias, to_embed, to_bias)
    return *in_order, None, None, None


_forward.register_autograd(_differentiate, setup_context=_remember)

_INPUTS = ("features", "days", "mask", "norm_scale", "norm_shift", "score", "score_position", "score_bias")
_STATISTICS = ("normaliser", "mean_of", "deviation_of")


def _numbers(features: Tensor, score_position: Tensor, *, period: float, dropout: float) -> dict[str, int | float]:
    """Scalars of a launch."""
    B, T, Y, X, _ = features.shape
    numbers = attention_numbers(period=period, entries=score_position.shape[1])
    return {"B": B, "T": T, "N": Y * X, **numbers._asdict(), "dropout": dropout}


def _check(features: Tensor, days: Tensor, mask: Tensor, *, weights: AttentionWeights, dropout: float) -> None:
    H, D = weights.query.shape[0], weights.embed.shape[0]
    C = weights.embed.shape[1]
    if features.dim() != 5 or features.shape[2] != C:
        raise ValueError(
            f"temporal_attention: features are {list(features.shape)}, expected [B, T, {C}, Y, X] for an embedding of "
            f"{C} channels; give features of the network's width"
        )
    if days.shape != features.shape[:2] or mask.shape != features.shape[:2]:
        raise ValueError(
            f"temporal_attention: days are {list(days.shape)} and mask is {list(mask.shape)}, expected "
            f"{list(features.shape[:2])} as the features have it; give both for every date"
        )
    if C % H or D % H:
        raise ValueError(f"temporal_attention: {C} channels and {D} of the embedding, expected multiples of {H} heads")
    if not 0 <= dropout < 1:
        raise ValueError(f"temporal_attention: dropout is {dropout}, expected at least 0 and below 1; choose another")


def _check_fused(features: Tensor, *, weights: AttentionWeights) -> None:
    H, (D, C) = weights.query.shape[0], weights.embed.shape
    limit = attention_limit(heads=H, channels=C, embedding=D)
    if limit:
        raise ValueError(f"temporal_attention: {limit}; use uperfuse.kernels.disable()")
    limit = dates_limit(features.shape[1])
    if limit:
        raise ValueError(f"temporal_attention: {limit}; leave some out")
