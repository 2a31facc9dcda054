"""Numbers of 8 bits against their definitions."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from uperfuse.engine.builder.eight_bits import TOP, Range, codes, rounded, scale_of, steps_of
from uperfuse.engine.builder.histogram import Histogram
from uperfuse.engine.errors import PlanError

ONE = np.float32(1)
sizes = st.floats(min_value=2.0**-20, max_value=2.0**20, allow_subnormal=False)


def e4m3_values() -> dict[int, float]:
    """Code -> value, read off the format's definition; code 127 is NaN."""
    values = {}
    for code in range(127):
        exponent, mantissa = code >> 3, code & 7
        values[code] = 2.0 ** (exponent - 7) * (1 + mantissa / 8) if exponent else 2.0**-6 * mantissa / 8
    return values


E4M3 = e4m3_values()


def bfloat16(values: np.ndarray) -> np.ndarray:
    """The upper half of a float32; exact for what bfloat16 holds."""
    return (values.view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)


@given(st.lists(sizes, min_size=1, max_size=20), st.sampled_from(sorted(set(TOP.values()))))
def test_a_scale_is_the_same_in_every_type_and_large_enough(amplitudes, top):
    scale = scale_of(amplitudes, top=top)
    np.testing.assert_array_equal(scale, scale.astype(np.float16).astype(np.float32))
    np.testing.assert_array_equal(scale, bfloat16(scale))
    assert (scale.astype(np.float64) * top >= amplitudes).all()
    large = np.array(amplitudes) / top >= 2.0**-16  # below, float16 has steps of 2^-24 alone
    assert (scale[large] * top <= np.array(amplitudes)[large] * (1 + 2.0**-7)).all()


def test_a_tensor_of_zeros_has_a_scale():
    assert scale_of(np.zeros(3), top=127).tolist() == [1, 1, 1]
    assert codes(np.zeros(3), scale=ONE, kind="int8").tolist() == [0, 0, 0]


@given(st.floats(-600, 600, width=32))
def test_fp8_is_the_nearest_value_of_the_format(value):
    got = float(rounded(np.array([value]), scale=ONE, kind="fp8")[0])
    held = min(max(value, -448.0), 448.0)
    nearest = min(abs(abs(held) - each) for each in E4M3.values())
    assert abs(held - got) == nearest
    assert abs(got) in E4M3.values()


def test_fp8_takes_the_even_one_of_two_that_are_as_near():
    codes_ = sorted(E4M3)
    for low, high in itertools.pairwise(codes_):
        middle = (E4M3[low] + E4M3[high]) / 2
        even = low if low % 2 == 0 else high
        assert rounded(np.array([middle, -middle]), scale=ONE, kind="fp8").tolist() == [E4M3[even], -E4M3[even]]


def test_codes_say_the_value():
    values = np.array([E4M3[code] for code in E4M3])
    assert codes(values, scale=ONE, kind="fp8").tolist() == list(E4M3)
    assert codes(-values[1:], scale=ONE, kind="fp8").tolist() == [code + 128 for code in list(E4M3)[1:]]
    assert codes(np.array([-1e9, -0.4, 0.6, 1e9]), scale=ONE, kind="int8").tolist() == [-127, 0, 1, 127]


@given(st.floats(0, 1000), st.floats(-1000, 0), st.sampled_from(["int8", "uint8", "fp8"]))
def test_steps_hold_a_range_and_zero(high, low, kind):
    steps = steps_of(Range(low, high), kind=kind)
    assert steps.high * steps.scale >= high
    assert steps.low * steps.scale <= low
    assert steps.zero in {"int8": (0,), "fp8": (0,), "uint8": (0, 128)}[kind]
    if kind == "uint8":  # as stored
        assert (steps.low + steps.zero, steps.high + steps.zero) == (0, 255)


def test_a_map_that_is_never_negative_has_all_256_steps_above_zero():
    assert steps_of(Range(0, 255), kind="uint8").scale == 1
    assert steps_of(Range(0, 255), kind="int8").scale > 2


numbers = st.floats(-1e5, 1e5, width=32).map(lambda value: value if abs(value) > 1e-15 else 0.0)


@given(st.lists(st.lists(numbers, min_size=1, max_size=30), min_size=1, max_size=6))
def test_a_histogram_of_few_values_gives_their_range(batches):
    histogram = Histogram("map")
    for batch in batches:
        histogram.add(np.array(batch, np.float32))
    values = np.concatenate(batches)
    found = histogram.range()
    largest = max(np.abs(values).max(), 0.0)
    assert found.amplitude <= largest
    assert found.amplitude >= largest * (1 - 2 / 1024)  # the last bin's width
    assert found.low >= min(values.min(), 0)
    assert found.high <= max(values.max(), 0)


def test_a_histogram_lets_one_value_in_100000_go():
    rng = np.random.default_rng(0)
    histogram = Histogram("map")
    usual = rng.uniform(-1, 2, 400_000).astype(np.float32)
    for part in (usual[:150_000], np.array([900.0], np.float32), usual[150_000:]):
        histogram.add(part)
    assert 2 - 1e-3 < histogram.range().high < 2 + 1
    assert histogram.high == 900
    assert histogram.range().low == pytest.approx(-1, abs=1e-3)


def test_a_histogram_of_next_to_nothing_has_no_range():
    histogram = Histogram("map")
    histogram.add(np.array([1e-38, -1e-30, 0], np.float32))
    assert histogram.range() == Range(0, 0)


def test_a_histogram_refuses_what_is_no_number():
    with pytest.raises(PlanError, match="cat_1 takes NaN or infinite values"):
        Histogram("cat_1").add(np.array([1, np.nan], np.float32))
