"""Where tiles lie: cores partition the raster, and every core pixel has its context."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from uperfuse.engine.errors import RasterError
from uperfuse.engine.rasters.tiling import Tiling, default_halo_px

calmly = settings(deadline=None)  # the machine may be busy


@st.composite
def tilings(draw: st.DrawFn) -> Tiling:
    tile_px = draw(st.integers(1, 90))
    halo_px = draw(st.integers(0, (tile_px - 1) // 2))
    sizes = st.integers(1, 12 * (tile_px - 2 * halo_px) + 2 * tile_px)
    return Tiling((draw(sizes), draw(sizes)), tile_px=tile_px, halo_px=halo_px)


@calmly
@given(tilings())
def test_cores_partition_the_raster(tiling: Tiling) -> None:
    owners = np.zeros(tiling.shape_yx, np.int64)
    for place in tiling:
        owners[place.core_yx] += 1
        assert place.core_pixels == owners[place.core_yx].size
    assert (owners == 1).all()
    assert len(list(tiling)) == len(tiling)


@calmly
@given(tilings())
def test_a_core_lies_in_its_tile_with_a_halo_up_to_the_edge_of_the_raster(tiling: Tiling) -> None:
    for place in tiling:
        for span, length in zip((place.rows, place.columns), tiling.shape_yx, strict=True):
            before, after = span.core_start - span.start, span.start + tiling.tile_px - span.core_stop
            assert before >= 0
            assert after >= 0
            assert before >= tiling.halo_px or span.core_start == 0
            assert after >= tiling.halo_px or span.core_stop == length


@calmly
@given(tilings())
def test_no_tile_reads_outside_a_raster_that_holds_one(tiling: Tiling) -> None:
    for place in tiling:
        for span, length in zip((place.rows, place.columns), tiling.shape_yx, strict=True):
            assert span.start >= 0
            assert span.start + tiling.tile_px <= max(length, tiling.tile_px)


@calmly
@given(tilings())
def test_no_more_tiles_than_needed(tiling: Tiling) -> None:
    step = tiling.tile_px - 2 * tiling.halo_px
    along = [1 + -(-max(0, length - tiling.tile_px) // step) for length in tiling.shape_yx]
    assert len(tiling) == along[0] * along[1]


def test_core_in_tile_is_the_core_on_the_raster() -> None:
    numbers = np.arange(200 * 170).reshape(200, 170)
    for place in Tiling((200, 170), tile_px=64, halo_px=10):
        tile = numbers[place.rows.start : place.rows.start + 64, place.columns.start : place.columns.start + 64]
        np.testing.assert_array_equal(tile[place.core_in_tile_yx], numbers[place.core_yx])


def test_a_halo_without_core_is_refused() -> None:
    with pytest.raises(RasterError, match=r"halo of 600 px leaves no core in a 1024 px tile; use a halo below 512 px"):
        Tiling((5000, 5000), tile_px=1024, halo_px=600)
    with pytest.raises(RasterError, match="leaves no core"):
        Tiling((5000, 5000), tile_px=64, halo_px=32)
    with pytest.raises(RasterError, match="halo of -1 px is negative"):
        Tiling((5000, 5000), tile_px=64, halo_px=-1)


@pytest.mark.parametrize(
    ("tile_px", "halo_px"), [(512, 64), (1024, 64), (384, 64), (256, 32), (224, 28), (64, 8), (10, 1), (4, 0)]
)
def test_usual_halo_is_an_eighth_and_at_most_64_px(tile_px: int, halo_px: int) -> None:
    assert default_halo_px(tile_px) == halo_px
