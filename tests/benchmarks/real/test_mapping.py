"""Maps of strips: tiles cover them, and nothing depends on how the strip is laid."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.real.land_cover import Learning, describe, network_spec
from benchmarks.real.mapping import map_strip, starts
from benchmarks.real.strips import IMAGE, TASK
from tests.benchmarks.real.examples import land
from tests.conftest import randomise
from uperfuse.engine.rasters.source import Pixels
from uperfuse.trainer.data import PatchId, Sample, turn
from uperfuse.trainer.network import BackboneSpec, UPerFuse

LEARNING = Learning(backbone=BackboneSpec("convnextv2", (8, 8, 16, 16), (1, 1, 1, 1)), side_px=32)


@given(extent=st.integers(1, 300), side=st.integers(1, 300))
def test_tiles_cover_an_axis_and_stay_inside(extent, side):
    if side > extent:
        return
    tiles = starts(extent, side_px=side)
    covered = np.zeros(extent, np.bool_)
    for start in tiles:
        assert 0 <= start <= extent - side
        covered[start : start + side] = True
    assert covered.all()
    assert tiles == sorted(set(tiles))


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    made = UPerFuse(network_spec(LEARNING)).eval()
    randomise(made)
    return made


def sample(shape_yx) -> Sample:
    values, classes = land(np.random.default_rng(8), shape_yx=shape_yx)
    void = np.zeros((1, *shape_yx), np.bool_)
    return Sample(PatchId("x", "", "", "", ""), {IMAGE: Pixels(values[None], void)}, {}, {TASK: classes})


def mapped(network, strip):
    return map_strip(network, strip, modalities=describe(LEARNING), side_px=LEARNING.side_px)


def test_the_map_of_a_turned_strip_is_the_turned_map(network):
    strip = sample((48, 40))
    plain = mapped(network, strip)
    assert len(np.unique(plain)) > 1
    again = mapped(network, turn(strip, quarters=1, flip=True))
    expected = np.rot90(plain, 1)[:, ::-1]
    # equal up to ties of sums in another order
    assert (again == expected).mean() > 0.995


def test_a_strip_narrower_than_a_tile_is_extended_and_cut_back(network):
    narrow = sample((40, 20))
    wide = replace(
        narrow,
        images={
            IMAGE: Pixels(
                np.pad(narrow.images[IMAGE].values, [(0, 0), (0, 0), (0, 0), (0, 12)], mode="symmetric"),
                np.zeros((1, 40, 32), np.bool_),
            )
        },
    )
    np.testing.assert_array_equal(mapped(network, narrow), mapped(network, wide)[:, :20])
