"""Axis tables against the matrices of PyTorch's bilinear interpolation."""

import doctest

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from uperfuse.engine import resize as module
from uperfuse.engine.errors import PlanError
from uperfuse.engine.resize import MAX_TAPS, axis_resize


def torch_matrix(source_px, steps):
    """[n_out, n_in]: what interpolation makes of each unit vector, along one axis."""
    unit = torch.eye(source_px)[None, :, :, None]  # [1, C, Y, 1]
    for px, align_corners in steps:
        unit = F.interpolate(unit, size=(px, 1), mode="bilinear", align_corners=align_corners)
    return unit[0, :, :, 0].T.numpy()


def dense(table, source_px):
    matrix = np.zeros((len(table.start), source_px), np.float32)
    for tap in range(table.weight.shape[1]):
        matrix[np.arange(len(table.start)), table.start + tap] += table.weight[:, tap]
    return matrix


steps_along = st.tuples(
    st.integers(1, 40),
    st.one_of(
        st.tuples(),
        st.tuples(st.tuples(st.integers(1, 300), st.booleans())),
        st.tuples(st.tuples(st.integers(40, 200), st.booleans()), st.tuples(st.integers(1, 600), st.booleans())),
    ),
)


@given(steps_along)
def test_equals_torch(case):
    source_px, steps = case
    table = axis_resize(source_px, steps=steps)
    assert table.start.dtype == np.int32
    assert table.weight.dtype == np.float32
    assert table.weight.shape[1] <= MAX_TAPS
    assert (np.diff(table.start) >= 0).all()
    np.testing.assert_allclose(dense(table, source_px), torch_matrix(source_px, steps), rtol=0, atol=3e-5)
    np.testing.assert_allclose(table.weight.sum(1), 1, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("source_px", "steps", "taps"),
    [
        (10, [], 1),
        (512, [(512, True), (512, False)], 1),
        (128, [(512, True)], 2),
        (10, [(512, False)], 2),
        (16, [(64, True), (512, False)], 3),
        (64, [(256, True), (512, False)], 3),
        (1, [(4, True), (64, False)], 1),
    ],
)
def test_reads_no_more_neighbours_than_needed(source_px, steps, taps):
    assert axis_resize(source_px, steps=steps).weight.shape[1] == taps


def test_tables_are_read_only():
    table = axis_resize(4, steps=[(16, True)])
    with pytest.raises(ValueError, match="read-only"):
        table.weight[0, 0] = 2


def test_refuses_steps_that_read_too_far():
    with pytest.raises(PlanError, match=r"read 10 neighbours per pixel along an axis; expected at most 4"):
        axis_resize(64, steps=[(8, False), (64, False)])


@pytest.mark.parametrize(("source_px", "steps"), [(0, []), (4, [(0, True)]), (4, [(16, True), (-3, False)])])
def test_refuses_empty_axes(source_px, steps):
    with pytest.raises(PlanError, match="expected at least 1 px each"):
        axis_resize(source_px, steps=steps)


def test_examples():
    outcome = doctest.testmod(module)
    assert outcome.attempted > 0
    assert outcome.failed == 0
