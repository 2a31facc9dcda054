"""The absorbed attention against the one that stores embeddings and keys, the kernels against the absorbed one."""

import pytest
import torch

from tests.conftest import randomise, small_spec
from uperfuse.kernels.launch import dtype_name
from uperfuse.kernels.temporal_attention import AttentionWeights, reference, temporal_attention
from uperfuse.kernels.temporal_attention.reference import naive, positions
from uperfuse.trainer.network import series

from .registration import assert_registered
from .tolerances import assert_near
from .traffic import assert_in_readme, measure, measure_unfused

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


DTYPES = (torch.float32, torch.float16, torch.bfloat16)
NAMES = ("norm_scale", "norm_shift", "embed", "embed_bias", "key", "key_bias", "query")

# B, T, C, Y, X, heads, d_key, d_model
CASES = {
    "one date": (1, 1, 128, 3, 2, 16, 2, 64),
    "61 dates": (2, 61, 32, 2, 5, 16, 4, 64),
    "the published widths": (1, 3, 128, 3, 3, 16, 4, 256),
    "more dates than are held": (2, 70, 16, 1, 3, 16, 4, 128),
}


def _case(name, *, dtype):
    """Features that lie channels last, days, a mask and weights, and the same in float64; floats are leaves."""
    features, days, exact = draw(CASES[name])
    features = features.to(dtype).permute(0, 1, 3, 4, 2).contiguous().permute(0, 1, 4, 2, 3)
    weights = AttentionWeights(*(getattr(exact, each).float() for each in NAMES))
    # the kernel multiplies with the embedding in the features' dtype
    exact = {each: getattr(weights, each).double() for each in NAMES}
    exact["embed"] = weights.embed.to(dtype).double()
    exact = AttentionWeights(**exact)
    truth = features.double()
    for leaf in (features, truth, *(getattr(each, name) for each in (weights, exact) for name in NAMES)):
        leaf.requires_grad_()
    return (features, days.float(), masks(*CASES[name][:2]), weights), (truth, days, masks(*CASES[name][:2]), exact)


def _gradients(outputs, pulls, features, weights):
    leaves = [features, *(getattr(weights, name) for name in NAMES)]
    return dict(zip(("features", *NAMES), torch.autograd.grad(outputs, leaves, pulls), strict=True))


def _assert_gradients(got, truth, *, dtype):
    largest = max(float(each.abs().max()) for each in truth.values())
    for name, exact in truth.items():
        if float(exact.abs().max()) > 1e-12 * largest:
            # parameters are float32, but no better than what the features' dtype lets through
            assert_near(got[name].to(dtype), exact, operation="temporal_attention_backward", what=name)
        else:  # a single date has all the weight: no score counts; and what scores have in common never does
            assert float(got[name].abs().max()) < 2e-5 * largest, name


def _pulls(outputs, dtype):
    torch.manual_seed(5)
    return [torch.randn(each.shape).to(dtype) for each in outputs]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", CASES)
def test_kernel_and_its_gradients_equal_the_reference(kernels, name, dtype):
    (features, *rest, weights), (exact, *exact_rest, exact_weights) = _case(name, dtype=dtype)
    got = temporal_attention(features, *rest, weights=weights)
    truth = reference.temporal_attention(exact, *exact_rest, weights=exact_weights)
    for ours, theirs in zip(got, truth, strict=True):
        assert ours.dtype == dtype
        assert_near(ours, theirs, operation="temporal_attention")
    pulls = _pulls(got, dtype)
    _assert_gradients(
        _gradients(got, pulls, features, weights),
        _gradients(truth, [pull.double() for pull in pulls], exact, exact_weights),
        dtype=dtype,
    )


def test_256_dates(kernels):
    shape = (1, 256, 16, 1, 2, 16, 2, 64)
    features, days, weights = draw(shape, dtype=torch.float32)
    exact, _, exact_weights = draw(shape)
    got = temporal_attention(features, days, masks(1, 256), weights=weights)
    truth = reference.temporal_attention(exact, days.double(), masks(1, 256), weights=exact_weights)
    for ours, theirs in zip(got, truth, strict=True):
        assert_near(ours, theirs, operation="temporal_attention")


@pytest.mark.parametrize("name", ["61 dates", "more dates than are held"])
def test_masked_dates_are_not_even_read(kernels, name):
    (features, days, mask, weights), _ = _case(name, dtype=torch.float32)
    spoilt = features.detach().masked_fill(~mask[:, :, None, None, None], float("nan")).requires_grad_()
    late = days.masked_fill(~mask, float("inf"))
    clean = temporal_attention(features, days, mask, weights=weights)
    got = temporal_attention(spoilt, late, mask, weights=weights)
    assert torch.equal(got[0], clean[0])
    assert torch.equal(got[1], clean[1])
    pulls = _pulls(got, torch.float32)
    # gradients of dates that do not count may be anything, too
    pulls[1] = pulls[1].masked_fill(~mask[:, None, :, None, None], float("nan"))
    gradients = _gradients(got, pulls, spoilt, weights)
    assert all(bool(torch.isfinite(each).all()) for each in gradients.values())
    assert bool((gradients["features"][~mask] == 0).all())


def test_kernel_without_any_date(kernels):
    (features, days, mask, weights), _ = _case("61 dates", dtype=torch.float32)
    for some in (slice(None), slice(0)):
        context, attention = temporal_attention(
            features[:, some], days[:, some], torch.zeros_like(mask[:, some]), weights=weights
        )
        assert torch.equal(context, torch.zeros(2, 64, 2, 5))
        assert torch.equal(attention, torch.zeros(2, 16, features[:, some].shape[1], 2, 5))


@pytest.mark.parametrize("name", ["61 dates", "more dates than are held"])
def test_dropout(kernels, monkeypatch, name):
    (features, days, mask, weights), (exact, exact_days, _, exact_weights) = _case(name, dtype=torch.float32)
    mask = torch.ones_like(mask)
    whole = temporal_attention(features, days, mask, weights=weights)
    torch.manual_seed(1)
    got = temporal_attention(features, days, mask, weights=weights, dropout=0.25)
    torch.manual_seed(1)
    again = temporal_attention(features, days, mask, weights=weights, dropout=0.25)
    assert torch.equal(got[1], again[1])
    assert not torch.equal(got[1], temporal_attention(features, days, mask, weights=weights, dropout=0.25)[1])
    kept = got[1] != 0
    assert abs(float(kept.float().mean()) - 0.75) < 5 * (0.25 * 0.75 / kept.numel()) ** 0.5
    torch.testing.assert_close(got[1], whole[1] * kept / 0.75)

    factor = (kept / 0.75).double().permute(0, 3, 4, 2, 1).flatten(1, 2)  # [B, N, T, H]
    monkeypatch.setattr(reference.F, "dropout", lambda attention, *_, training: attention * factor)
    truth = reference.temporal_attention(exact, exact_days, mask, weights=exact_weights, dropout=0.25)
    for ours, theirs in zip(got, truth, strict=True):
        assert_near(ours, theirs, operation="temporal_attention")
    pulls = _pulls(got, torch.float32)
    _assert_gradients(
        _gradients(got, pulls, features, weights),
        _gradients(truth, [pull.double() for pull in pulls], exact, exact_weights),
        dtype=torch.float32,
    )


def _op_inputs(name, *, dropout=0.0, dtype=torch.float32):
    (features, days, mask, weights), _ = _case(name, dtype=dtype)
    tensors = [weights.norm_scale, weights.norm_shift, *reference.absorb(weights), weights.embed, weights.embed_bias]
    leaves = [each.detach().to(dtype if dtype == torch.float64 else torch.float32).requires_grad_() for each in tensors]
    rows = features.detach().permute(0, 1, 3, 4, 2).contiguous().requires_grad_()
    return [rows, days, mask.to(torch.uint8), *leaves, torch.tensor([7]), 1000.0, dropout]


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_formulas_of_the_gradients_equal_autograd(dropout):
    inputs = _op_inputs("61 dates", dropout=dropout, dtype=torch.float64)
    outputs = reference.absorbed(*inputs)[:2]
    pulls = _pulls(outputs, torch.float64)
    leaves = [inputs[place] for place in (0, 3, 4, 5, 6, 8, 9)]
    truth = torch.autograd.grad(outputs, leaves, pulls)
    got = reference.backward(*inputs[:11], *pulls, *inputs[11:])
    for ours, theirs in zip(got, truth, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("interpreted", [False, True], ids=["reference", "kernel"])
def test_op_is_registered_rightly(request, interpreted):
    if interpreted:
        request.getfixturevalue("kernels")
    inputs = _op_inputs("one date", dropout=0.25)
    assert_registered(torch.ops.uperfuse.temporal_attention.default, *inputs)
    outputs = torch.ops.uperfuse.temporal_attention(*inputs)
    tensors = [each.detach() for each in (*inputs[:11], *outputs[2:], *_pulls(outputs[:2], torch.float32))]
    assert_registered(torch.ops.uperfuse.temporal_attention_backward.default, *tensors, *inputs[11:])


def test_compiles_without_graph_breaks(kernels):
    (features, days, mask, weights), _ = _case("one date", dtype=torch.float32)

    def attend(features):
        return [each * 2 for each in temporal_attention(features, days, mask, weights=weights)]

    compiled = torch.compile(attend, fullgraph=True, backend="aot_eager")
    both = [run(features) for run in (compiled, attend)]
    torch.testing.assert_close(*both)
    pulls = _pulls(both[0], torch.float32)
    torch.testing.assert_close(*(_gradients(each, pulls, features, weights) for each in both))


def test_dropout_compiles_without_graph_breaks(kernels):
    (features, days, mask, weights), _ = _case("61 dates", dtype=torch.float32)
    compiled = torch.compile(
        lambda x: temporal_attention(x, days, mask, weights=weights, dropout=0.5)[1],
        fullgraph=True,
        backend="aot_eager",
    )
    assert not torch.equal(compiled(features), compiled(features))


def test_reads_the_features_once(kernels):
    """A series of 61 dates beside an aerial image, as LC-F and LC-L have it."""
    rows = []
    for side, tile_px in ((10, 512), (15, 768)):
        for dtype in (torch.float32, torch.bfloat16):
            _, days, weights = draw((1, 61, 128, side, side, 16, 4, 256), dtype=torch.float32)
            features = torch.zeros(1, 61, side, side, 128, dtype=dtype).movedim(4, 2)
            with measure() as launches:
                temporal_attention(features, days, torch.ones(1, 61), weights=weights)
            plain = AttentionWeights(*(getattr(weights, name).to(dtype) for name in NAMES))
            with measure_unfused() as unfused:
                reference.temporal_attention(features, days, torch.ones(1, 61), weights=plain)
            (launch,) = launches
            assert launch.loaded["features"] == features.nbytes
            assert launch.ratio <= 1.15
            rows.append((f"{tile_px} px, {dtype_name(features)}", launch.moved, launch.compulsory, unfused.moved))
    assert_in_readme("temporal_attention", rows)


def test_the_network_hands_its_features_over_without_a_copy(kernels, monkeypatch):
    spec = small_spec("series").series[0]
    encoder = series.SeriesEncoder(spec)
    randomise(encoder)
    encoder.eval()
    pixels, days, mask = torch.randn(2, 5, 10, 6, 7), torch.arange(10.0).view(2, 5), torch.ones(2, 5)
    seen = []

    def spy(operation):
        def run(maps, *args, **kwargs):
            seen.extend(maps if isinstance(maps, list) else [maps])
            return operation(maps, *args, **kwargs)

        return run

    for name in ("temporal_attention", "temporal_aggregate"):
        monkeypatch.setattr(series, name, spy(getattr(series, name)))
    with torch.inference_mode():
        encoder(pixels, days, mask)
    assert len(seen) == 4
    assert all(features.permute(0, 1, 3, 4, 2).is_contiguous() for features in seen)


@pytest.mark.parametrize(
    ("shape", "change", "error", "says"),
    [
        ((1, 257, 16, 1, 1, 16, 2, 64), {}, ValueError, "257 dates, expected at most 256"),
        ((1, 2, 32, 1, 1, 8, 2, 64), {}, ValueError, "got 8 heads"),
        ((1, 2, 48, 1, 1, 16, 2, 64), {}, ValueError, "48 channels"),
        ((1, 2, 16, 1, 1, 16, 2, 64), {"features": torch.zeros(1, 2, 32, 1, 1)}, ValueError, r"expected \[B, T, 16"),
        ((1, 2, 16, 1, 1, 16, 2, 64), {"days": torch.zeros(1, 3)}, ValueError, r"days are \[1, 3\]"),
        ((1, 2, 16, 1, 1, 16, 2, 64), {"dropout": 1.0}, ValueError, "dropout is 1.0"),
        ((1, 2, 16, 1, 1, 16, 2, 64), {"features": torch.zeros(1, 2, 16, 1, 1).double()}, TypeError, "float64"),
    ],
)
def test_refuses_what_it_cannot_do(kernels, shape, change, error, says):
    features, days, weights = draw(shape, dtype=torch.float32)
    given = {"features": features, "days": days, "mask": torch.ones(shape[:2]), "weights": weights} | change
    with pytest.raises(error, match=says):
        temporal_attention(given.pop("features"), given.pop("days"), given.pop("mask"), **given)
