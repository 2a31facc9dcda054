"""The absorbed attention against the one that stores embeddings and keys."""

import pytest
import torch

from uperfuse.kernels.temporal_attention import AttentionWeights, temporal_attention
from uperfuse.kernels.temporal_attention.reference import naive, positions

# (dtype) -> largest difference from float64, relative to the largest value. Float32 carries 24 bits; the variance over
# few dates and the sum over 61 of them lose about five.
TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5}

# B, T, C, Y, X, heads, d_key, d_model
UGLY = [(1, 1, 16, 3, 2, 4, 2, 32), (2, 61, 32, 2, 5, 16, 4, 64), (3, 7, 8, 4, 3, 2, 3, 8), (2, 2, 12, 1, 1, 3, 1, 6)]


def draw(shape, *, dtype=torch.float64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    B, T, C, Y, X, H, K, D = shape

    def normal(*size, std=1.0):
        return (std * torch.randn(*size, generator=generator, dtype=torch.float64)).to(dtype)

    weights = AttentionWeights(
        norm_scale=1 + normal(C, std=0.2),
        norm_shift=normal(C, std=0.1),
        embed=normal(D, C, std=C**-0.5),
        embed_bias=normal(D),
        key=normal(H * K, D, std=D**-0.5),
        key_bias=normal(H * K),
        query=normal(H, K),
    )
    features = 3 + 2 * normal(B, T, C, Y, X)
    days = torch.randint(-134, 231, (B, T), generator=generator).to(dtype)
    return features, days, weights


def masks(B, T):
    """Everything real, one row with gaps, one row with nothing."""
    mask = torch.ones(B, T, dtype=torch.bool)
    mask[0, T // 2 :: 3] = T == 1
    if B > 1:
        mask[-1] = False
    return mask


def difference(got, want):
    return float((got.double() - want.double()).abs().max() / want.double().abs().max().clamp(min=1e-30))


@pytest.mark.parametrize("dtype", list(TOLERANCE), ids=str)
@pytest.mark.parametrize("shape", UGLY, ids=str)
def test_absorbed_equals_naive(shape, dtype):
    features, days, weights = draw(shape)
    mask = masks(*shape[:2])
    want = naive(features, days, mask, weights=weights)
    cast = AttentionWeights(*(getattr(weights, name).to(dtype) for name in list(vars(weights))[:-1]))
    got = temporal_attention(features.to(dtype), days.to(dtype), mask.to(dtype), weights=cast)
    for ours, truth in zip(got, want, strict=True):
        assert ours.dtype == dtype
        assert ours.shape == truth.shape
        assert difference(ours, truth) < TOLERANCE[dtype]


def test_takes_features_that_are_not_contiguous():
    features, days, weights = draw(UGLY[2])
    mask = masks(*UGLY[2][:2])
    turned = features.permute(4, 3, 2, 1, 0).contiguous().permute(4, 3, 2, 1, 0)
    assert not turned.is_contiguous()
    for ours, truth in zip(
        temporal_attention(turned, days, mask, weights=weights),
        naive(features, days, mask, weights=weights),
        strict=True,
    ):
        assert difference(ours, truth) < TOLERANCE[torch.float64]


def test_attention_is_a_share_of_real_dates():
    features, days, weights = draw(UGLY[1])
    mask = masks(2, 61)
    _, attention = temporal_attention(features, days, mask, weights=weights)
    assert (attention[0, :, ~mask[0]] == 0).all()
    torch.testing.assert_close(attention[0].sum(1), torch.ones_like(attention[0, :, 0]))


def test_without_any_date_there_is_neither_attention_nor_context():
    features, days, weights = draw(UGLY[2])
    none = torch.zeros(UGLY[2][:2])
    context, attention = temporal_attention(features, days, none, weights=weights)
    assert (context == 0).all()
    assert (attention == 0).all()
    empty = temporal_attention(features[:, :0], days[:, :0], none[:, :0], weights=weights)
    assert torch.equal(empty[0], context)
    assert empty[1].shape == (3, 2, 0, 4, 3)


@pytest.mark.parametrize("padding", [1, 5, 40])
@pytest.mark.parametrize("garbage", [0.0, -1e4, 1e30])
def test_padding_changes_nothing(padding, garbage):
    features, days, weights = draw(UGLY[2])
    B, T = UGLY[2][:2]
    mask = torch.ones(B, T, dtype=torch.bool)
    context, attention = temporal_attention(features, days, mask, weights=weights)
    padded = temporal_attention(
        torch.cat([torch.full_like(features[:, :1], garbage).expand(-1, padding, -1, -1, -1), features], 1),
        torch.cat([torch.full((B, padding), garbage), days], 1),
        torch.cat([torch.zeros(B, padding, dtype=torch.bool), mask], 1),
        weights=weights,
    )
    assert difference(padded[0], context) < TOLERANCE[torch.float64]
    assert difference(padded[1][:, :, padding:], attention) < TOLERANCE[torch.float64]


def test_gradients_equal_those_of_the_naive_one():
    features, days, weights = draw(UGLY[2])
    mask = masks(*UGLY[2][:2])
    names = [name for name in vars(weights) if name != "period"]
    leaves = {name: getattr(weights, name).requires_grad_() for name in names} | {"features": features.requires_grad_()}
    pull = torch.linspace(-1, 1, 3 * 8 * 4 * 3, dtype=torch.float64).reshape(3, 8, 4, 3)
    gradients = []
    for attend in (temporal_attention, naive):
        context, attention = attend(features, days, mask, weights=weights)
        loss = (context * pull).sum() + attention.square().sum()
        gradients.append(torch.autograd.grad(loss, list(leaves.values())))
    scale = max(float(gradient.abs().max()) for gradient in gradients[1])
    for name, ours, truth in zip(leaves, *gradients, strict=True):
        assert float((ours - truth).abs().max()) < 1e-12 * scale, name


def test_dropped_dates_are_missing_from_attention_and_context_alike():
    features, days, weights = draw(UGLY[1])
    B, T, C, Y, X, H, _, D = UGLY[1]
    mask = torch.ones(B, T)
    torch.manual_seed(3)
    context, attention = temporal_attention(features, days, mask, weights=weights, dropout=0.5)
    assert 0.4 < float((attention == 0).double().mean()) < 0.6
    x = torch.nn.functional.group_norm(
        features.permute(0, 3, 4, 2, 1).reshape(-1, C, T), H, weights.norm_scale, weights.norm_shift, 1e-5
    )
    embedding = (weights.embed @ x + weights.embed_bias[:, None]).reshape(B, Y, X, H, D // H, T)
    embedding = embedding + positions(days, width=D // H, period=1000.0).transpose(1, 2)[:, None, None, None]
    truth = torch.einsum("bhtyx,byxhdt->bhdyx", attention, embedding).reshape(B, D, Y, X)
    assert difference(context, truth) < TOLERANCE[torch.float64]


def test_positions_are_sines_on_even_and_cosines_on_odd_entries():
    table = positions(torch.tensor([[0.0, 100.0]], dtype=torch.float64), width=4, period=1000.0)
    slow = 100 / 1000**0.5
    assert table[0, 0].tolist() == [0, 1, 0, 1]
    want = torch.tensor([100.0, 100.0, slow, slow], dtype=torch.float64)
    torch.testing.assert_close(table[0, 1, 0::2], want[0::2].sin())
    torch.testing.assert_close(table[0, 1, 1::2], want[1::2].cos())
