"""Requests of kernels: their names, what they match, and the rules by which they follow from sizes."""

import json
from copy import deepcopy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from uperfuse.engine.launching import (
    ATTENTION_DATES,
    KernelRequest,
    LaunchRecord,
    aggregate_limit,
    aggregate_request,
    attention_limit,
    attention_request,
    classify_limit,
    classify_request,
    dates_limit,
    fusion_request,
    prepare_request,
    resize_steps,
)

from .test_record import EXAMPLE

NAMES = ("H", "C", "C0", "C1", "ALIGNED")
TYPES = st.fixed_dictionaries({"T": st.sampled_from(["fp32", "fp16", "bf16"])})
CONSTANTS = st.tuples(*[st.integers(0, 300)] * len(NAMES)).map(lambda values: dict(zip(NAMES, values, strict=True)))
REQUESTS = st.builds(KernelRequest, st.sampled_from(["classify", "prepare"]), TYPES, CONSTANTS)


def _record(**changes) -> LaunchRecord:
    return LaunchRecord.model_validate_json(json.dumps(deepcopy(EXAMPLE) | changes))


@given(REQUESTS, REQUESTS)
def test_what_differs_has_another_name(one, other):
    assert (str(one) == str(other)) == (one == other)
    assert one != other or hash(one) == hash(other)


@given(REQUESTS)
def test_names_are_those_that_records_may_have(request_):
    record = _record(variant=request_.variant)
    assert record.variant == request_.variant


def test_a_record_is_matched_by_what_it_was_made_of_alone():
    wanted = KernelRequest("scale", {"T": "bf16"}, {"C": 128})
    assert wanted.matches(_record())
    # what the architecture chose, and what the files hold, is nobody's wish
    assert wanted.matches(_record(configuration={"P": 16}, capability=87, target="sm_87"))
    for request in (
        KernelRequest("scaled", {"T": "bf16"}, {"C": 128}),
        KernelRequest("scale", {"T": "fp16"}, {"C": 128}),
        KernelRequest("scale", {"T": "bf16", "S": "u8"}, {"C": 128}),
        KernelRequest("scale", {"T": "bf16"}, {"C": 64}),
        KernelRequest("scale", {"T": "bf16"}, {"C": 128, "H": 16}),
        KernelRequest("scale", {"T": "bf16"}, {}),
    ):
        assert not request.matches(_record())


@given(st.integers(1, 400), st.booleans())
def test_a_series_that_fits_is_read_once(dates, dropout):
    request = attention_request(heads=16, channels=128, embedding=256, dtype="bf16", dates=dates, dropout=dropout)
    assert request.constants["ONE_PASS"] == (dates <= ATTENTION_DATES == 64)
    assert request.constants["DROPOUT"] == dropout


def test_maps_that_are_not_there_have_no_channels():
    request = aggregate_request(heads=16, channels=[64, 128], dtype="fp16")
    assert request.variant == "fp16_H16_C0-64_C1-128_C2-0_C3-0_RESIZED0"
    assert aggregate_request(heads=16, channels=[64, 128], dtype="fp16", resized=True).constants["RESIZED"] == 1
    for channels in ([], [16] * 5):
        with pytest.raises(AssertionError, match="up to 4 maps"):
            aggregate_request(heads=16, channels=channels, dtype="fp16")


@given(st.integers(1, 2000), st.none() | st.integers(1, 2000))
def test_rows_of_sixteen_are_aligned(channels, base_channels):
    request = fusion_request(channels=channels, dtype="fp32", base_channels=base_channels)
    assert request.constants["BASE"] == (base_channels is not None)
    assert request.constants["ALIGNED"] == (channels % 16 == 0 and (base_channels is None or base_channels % 16 == 0))
    assert prepare_request(sample="u16", dtype="fp16", pixels=channels).constants == {"ALIGNED": channels % 16 == 0}


@pytest.mark.parametrize(
    ("dtype", "logits_yx", "resizes", "variant"),
    [
        ("fp32", (128, 128), [((512, 512), True)], "fp32_STEPS1_ALIGNED1_TY64_TX128"),
        ("bf16", (128, 128), [((512, 512), True)], "bf16_STEPS1_ALIGNED1_TY64_TX64"),
        ("fp32", (16, 16), [((64, 64), True), ((512, 512), False)], "fp32_STEPS2_ALIGNED1_TY64_TX64"),
        ("fp32", (10, 10), [], "fp32_STEPS0_ALIGNED0_TY64_TX64"),
        # a resize that changes nothing is none
        ("fp32", (64, 64), [((64, 64), False)], "fp32_STEPS0_ALIGNED1_TY64_TX64"),
        # as large as the logits, along y: half the block, so that what it reads has room
        ("fp32", (96, 24), [((96, 90), False)], "fp32_STEPS1_ALIGNED0_TY16_TX128"),
    ],
)
def test_the_block_of_classify_follows_from_sizes(dtype, logits_yx, resizes, variant):
    map_yx = resizes[-1][0] if resizes else logits_yx
    assert classify_request(dtype=dtype, logits_yx=logits_yx, map_yx=map_yx, resizes=resizes).variant == variant


@pytest.mark.parametrize(
    ("heads", "channels", "embedding", "served"),
    [
        (16, 128, 256, True),
        (16, 16, 16, True),
        (256, 256, 256, True),
        (8, 128, 256, False),
        (24, 96, 192, False),
        (16, 96, 256, False),
        (16, 128, 320, False),
        (32, 16, 256, False),
        (32, 128, 16, False),
        (16, 512, 256, False),
        (16, 128, 512, False),
        (16, 0, 256, False),
    ],
)
def test_the_limits_of_attention(heads, channels, embedding, served):
    limit = attention_limit(heads=heads, channels=channels, embedding=embedding)
    assert (limit is None) == served
    assert (
        served or f"got {heads} heads, {channels} channels and {embedding} of the embedding, expected powers" in limit
    )


def test_the_limits_of_dates():
    assert [dates for dates in range(1, 400) if dates_limit(dates) is None] == [*range(1, 257)]


@pytest.mark.parametrize(
    ("heads", "channels", "served"),
    [
        (16, [64, 128], True),
        (16, [16], True),
        (2, [4], True),
        (16, [64, 96], False),
        (16, [8], False),
        (12, [48], False),
    ],
)
def test_the_limits_of_sums_over_dates(heads, channels, served):
    assert (aggregate_limit(heads=heads, channels=channels) is None) == served


@pytest.mark.parametrize(
    ("resizes", "says"),
    [
        ([], None),
        ([((40, 3), True)], None),
        ([((20, 60), True), ((7, 9), False)], None),
        ([((20, 30), True), ((40, 60), False), ((7, 9), False)], None),
        ([((20, 29), True), ((40, 60), False)], "first from (20, 30) to (20, 29) px, expected no axis to get shorter"),
        ([((n, n), True) for n in (31, 32, 33)], "got 3 resizes, expected at most 2"),
    ],
)
def test_the_limits_of_resizes(resizes, says):
    limit = classify_limit(resize_steps((20, 30), resizes=resizes))
    assert limit is None if says is None else says in limit
