"""Neighbouring tiles mixed along their seams: what NumPy says on the whole raster, whatever the way to it."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from uperfuse.engine import Engine
from uperfuse.engine.cluster import open_cluster, predict_on_cluster
from uperfuse.engine.errors import RasterError
from uperfuse.engine.prediction import VOID, Prediction
from uperfuse.engine.rasters import MapOptions, MapSummary, Scene, Source, patience, predict, predict_raster
from uperfuse.engine.rasters.blending import kept_probabilities, mix
from uperfuse.engine.rasters.files import UnreadableError
from uperfuse.engine.rasters.reader import SceneReader
from uperfuse.engine.rasters.seams import Piece, Seams, Stretch
from uperfuse.engine.rasters.tiling import Tiling

from .formula import CLASSES, TASK, FormulaEngine, aerial_manifest, read_raster, write_raster

calmly = settings(deadline=None)  # the machine may be busy
SHAPE = (150, 211)
TILE_PX, HALO_PX, BLEND_PX = 64, 12, 9


@st.composite
def seams(draw: st.DrawFn) -> Seams:
    tile_px = draw(st.integers(1, 90))
    halo_px = draw(st.integers(0, (tile_px - 1) // 2))
    blend_px = draw(st.integers(0, min(halo_px, (tile_px - 2 * halo_px) // 2)))
    sizes = st.integers(1, 6 * (tile_px - 2 * halo_px) + 2 * tile_px)
    return Seams(Tiling((draw(sizes), draw(sizes)), tile_px=tile_px, halo_px=halo_px), blend_px=blend_px)


@calmly
@given(seams())
def test_pieces_partition_the_map_and_each_is_finished_once(seams: Seams) -> None:
    tiling = seams.tiling
    given_by: dict[Piece, set[int]] = {}
    for tile in range(len(tiling)):
        for piece in seams.of(tile):
            given_by.setdefault(piece, set()).add(tile)
            rows, columns = piece.in_tile_yx(tiling[tile])  # the tile shows all of it
            assert 0 <= rows.start < rows.stop <= tiling.tile_px
            assert 0 <= columns.start < columns.stop <= tiling.tile_px
    finished = [(tile, piece) for tile in range(len(tiling)) for piece in seams.finished_by(tile)]
    times = np.zeros(tiling.shape_yx, np.int64)
    for tile, piece in finished:
        times[piece.yx] += 1
        assert given_by[piece] == set(piece.tiles)
        assert tile == max(piece.tiles)
    assert (times == 1).all()
    assert len(finished) == len(given_by) == len({piece.words for piece in given_by})


@calmly
@given(seams())
def test_weights_sum_to_one_everywhere_and_fall_with_the_distance_from_the_core(seams: Seams) -> None:
    tiling = seams.tiling
    total = np.zeros(tiling.shape_yx)
    for tile in range(len(tiling)):
        of_tile = np.zeros(tiling.shape_yx)
        for piece in seams.of(tile):
            everyone = sum(piece.weights(each) for each in piece.tiles)
            assert np.unique(everyone).size == 1
            of_tile[piece.yx] = piece.weights(tile) / everyone
            owned = np.zeros(piece.shape_yx, np.bool_)
            owned[piece.owned_yx(tile)] = True
            core = np.zeros(tiling.shape_yx, np.bool_)
            core[tiling[tile].core_yx] = True
            np.testing.assert_array_equal(owned, core[piece.yx])
            largest = np.max([piece.weights(each) for each in piece.tiles], axis=0)
            assert (piece.weights(tile)[owned] == largest[owned]).all()
        assert (np.abs(np.diff(of_tile, axis=0)) <= 1 / max(1, 2 * seams.blend_px) + 1e-12).all()
        total += of_tile
    np.testing.assert_allclose(total, 1, rtol=0, atol=1e-12)


def test_weights_are_linear_at_the_middle_of_pixels() -> None:
    across = Stretch(100, 104, (3, 4))
    assert across.weights(3).tolist() == [7, 5, 3, 1]
    assert across.weights(4).tolist() == [1, 3, 5, 7]
    assert (across.owned(3), across.owned(4)) == (slice(0, 2), slice(2, 4))


@pytest.mark.parametrize(
    ("halo_px", "blend_px", "said"),
    [
        (64, 65, "blending of 65 px reaches beyond the halo of 64 px; blend at most 64 px, or use a wider halo"),
        (64, -1, "blending of -1 px is negative; use 0 to 64 px"),
        (240, 17, "blending of 17 px from both sides leaves nothing of a core of 32 px; blend at most 16 px"),
    ],
)
def test_blending_farther_than_tiles_reach_is_refused(halo_px: int, blend_px: int, said: str) -> None:
    with pytest.raises(RasterError, match=said):
        Seams(Tiling((2000, 2000), tile_px=512, halo_px=halo_px), blend_px=blend_px)


class JumpingEngine(FormulaEngine):
    """Logits that follow the first band and jump from tile to tile, as told by the tile's upper left valid numbers."""

    def logits_of(self, tile: NDArray[Any]) -> NDArray[np.float32]:
        """[K, Y, X] of a tile [C, Y, X]; no two alike."""
        jump = np.random.default_rng(tile[1].astype(np.int64).sum()).normal(0, 1.5, (len(CLASSES), 1, 1))
        slope = np.arange(len(CLASSES))[:, None, None] - 1.5
        return (jump + slope * (tile[0] / 128.0 - 1)).astype(np.float32)

    def predict(self, tiles: Mapping[str, Any], *, voids=None, logits: bool = False, grid="label") -> Prediction:
        super().predict(tiles, voids=voids, logits=logits, grid=grid)
        made = np.stack([self.logits_of(tile) for tile in tiles["AERIAL_RGBI"]])
        largest = softmax(made, axis=1).max(axis=1)
        void = (voids or {}).get("AERIAL_RGBI", np.zeros(largest.shape, np.bool_))
        labels = np.where(void, np.uint8(VOID), made.argmax(axis=1).astype(np.uint8))
        confidence = np.where(void, np.uint8(VOID), np.rint(100 * largest).astype(np.uint8))
        return Prediction({TASK: labels}, {TASK: confidence}, {TASK: made} if logits else {})


class SteadyEngine(JumpingEngine):
    """The same without the jumps: logits are those of a pixel, whatever the tile."""

    def logits_of(self, tile: NDArray[Any]) -> NDArray[np.float32]:
        slope = np.arange(len(CLASSES))[:, None, None] - 1.5
        return (slope * (tile[0] / 128.0 - 1)).astype(np.float32)


def softmax(logits: NDArray[Any], *, axis: int) -> NDArray[np.float64]:
    powers = np.exp(logits.astype(np.float64) - logits.max(axis=axis, keepdims=True))
    return powers / powers.sum(axis=axis, keepdims=True)


@pytest.fixture(scope="module")
def values() -> NDArray[np.uint8]:
    """[C, Y, X] with a void corner, a void bar across seams, and voids here and there."""
    rng = np.random.default_rng(5)
    values = rng.integers(1, 255, (3, *SHAPE)).astype(np.uint8)
    values[:, :70, :80] = 0
    values[:, 85:95, 60:190] = 0
    values[:, rng.random(SHAPE) < 0.05] = 0
    return values


@pytest.fixture(scope="module")
def ortho(values: NDArray[np.uint8], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_raster(tmp_path_factory.mktemp("blend") / "ortho.tif", values, nodata=0, photometric="RGB")


def mapped(ortho: Path, out: Path, engine: FormulaEngine | None = None, **options: Any) -> MapSummary:
    engine = engine or JumpingEngine(aerial_manifest(tile_px=TILE_PX))
    scene = Scene(inputs={"AERIAL_RGBI": Source(path=ortho)})
    given = {"halo_px": HALO_PX, "blend_px": BLEND_PX, "batch": 3, "probabilities": True, **options}
    return predict_raster(engine, scene, out, **given)


def contents(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in out.iterdir()}


@pytest.fixture(scope="module")
def expected(ortho: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    out = tmp_path_factory.mktemp("expected")
    mapped(ortho, out)
    return contents(out)


def ramps(length: int) -> NDArray[np.float64]:
    """Weight of every tile along one axis [tiles, length], from the definition: a ramp around each seam."""
    spans = Tiling((length, length), tile_px=TILE_PX, halo_px=HALO_PX).row_spans
    middles = np.arange(length) + 0.5
    behind = [np.clip((middles - span.core_start) / (2 * BLEND_PX) + 0.5, 0, 1) for span in spans]
    behind[0][:] = 1
    return np.stack([*(a - b for a, b in pairwise(behind)), behind[-1]])


def whole_mix(values: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Probabilities of the whole raster in percent [K, Y, X], mixed in float64; tiles that are void have no say."""
    engine = JumpingEngine(aerial_manifest(tile_px=TILE_PX))
    tiling = Tiling(SHAPE, tile_px=TILE_PX, halo_px=HALO_PX)
    rows, columns = ramps(SHAPE[0]), ramps(SHAPE[1])
    sums, weights = np.zeros((len(CLASSES), *SHAPE)), np.zeros(SHAPE)
    for number, place in enumerate(tiling):
        if (values[(slice(None), *place.core_yx)] == 0).all():
            continue
        row, column = divmod(number, tiling.columns)
        window = (
            slice(place.rows.start, place.rows.start + TILE_PX),
            slice(place.columns.start, place.columns.start + TILE_PX),
        )
        weight = rows[row][window[0], None] * columns[column][None, window[1]]
        everything = (slice(None), *window)
        sums[everything] += weight * softmax(engine.logits_of(values[everything]), axis=0)
        weights[window] += weight
    return 100 * sums / np.where(weights, weights, 1)


def test_the_map_is_what_numpy_says_on_the_whole_raster(ortho: Path, values, tmp_path: Path) -> None:
    summary = mapped(ortho, tmp_path / "out")
    files, void = summary.files[TASK], (values == 0).all(axis=0)
    percent = whole_mix(values)
    labels, confidence = read_raster(files.labels)[0], read_raster(files.confidence)[0]
    np.testing.assert_array_equal(labels == VOID, void)
    np.testing.assert_array_equal(confidence == VOID, void)
    assert (labels != percent.argmax(axis=0))[~void].mean() <= 1e-4
    # Half a percent of rounding, and what 16 bits and float32 leave undecided of it.
    assert np.abs(confidence - percent.max(axis=0))[~void].max() < 0.501
    assert np.abs(read_raster(files.probabilities) - percent)[:, ~void].max() < 0.501
    assert summary.void_fraction == pytest.approx(void.mean())
    assert sum(summary.pixels[TASK].values()) == (~void).sum()
    assert summary.pixels[TASK] == {name: (labels == number).sum() for number, name in enumerate(CLASSES)}
    plain = read_raster(mapped(ortho, tmp_path / "plain", blend_px=0).files[TASK].labels)[0]
    assert (plain != labels).mean() > 0.05  # the tiles do jump


def test_seams_are_gone(tmp_path: Path) -> None:
    """On even ground the class probability of a map that is blended never jumps; that of one that is not, does."""
    rng = np.random.default_rng(0)
    values = np.full((3, *SHAPE), 128, np.uint8)
    values[1] = rng.integers(1, 255, SHAPE)
    path = write_raster(tmp_path / "even.tif", values, photometric="RGB")
    jumps = {}
    for blend_px in (0, BLEND_PX):
        files = mapped(path, tmp_path / str(blend_px), blend_px=blend_px).files[TASK]
        percent = read_raster(files.probabilities).astype(int)
        jumps[blend_px] = max(np.abs(np.diff(percent, axis=axis)).max() for axis in (1, 2))
    assert jumps[0] > 30
    assert jumps[BLEND_PX] <= 100 / (2 * BLEND_PX) + 1


def test_what_does_not_depend_on_the_tile_stays_as_it_is(ortho: Path, tmp_path: Path) -> None:
    plain, blended = (
        mapped(ortho, tmp_path / str(px), SteadyEngine(aerial_manifest(tile_px=TILE_PX)), blend_px=px)
        for px in (0, BLEND_PX)
    )
    before, after = (read_raster(summary.files[TASK].labels) for summary in (plain, blended))
    np.testing.assert_array_equal(before, after)
    for file in ("confidence", "probabilities"):
        before, after = (read_raster(getattr(summary.files[TASK], file)).astype(int) for summary in (plain, blended))
        # Half a percent is rounded up or down by the last of 16 bits.
        assert np.abs(before - after).max() <= 1
        assert (before != after).mean() < 2e-3
    assert plain.pixels == blended.pixels
    assert blended.areas_ha[TASK] == pytest.approx(plain.areas_ha[TASK], rel=1e-6)


def test_sixteen_bits_keep_the_labels_of_the_mix() -> None:
    rng = np.random.default_rng(2)
    classes, side = 19, 512
    piece = Piece(Stretch(0, side, (0,)), Stretch(0, side, (0, 1)), 2)
    coarse = rng.normal(0, 2, (2, classes, side // 8, side // 8))
    logits = (np.kron(coarse, np.ones((1, 1, 8, 8))) + rng.normal(0, 0.5, (2, classes, side, side))).astype(np.float32)
    nothing = np.zeros((side, side), np.bool_)
    kept = {tile: kept_probabilities(logits[tile], void=nothing) for tile in (0, 1)}
    mixed = mix(piece, kept, classes=classes, percent=True)
    weights = np.stack([piece.weights(tile) for tile in (0, 1)]) / (2.0 * side)
    exact = (weights[:, None] * softmax(logits, axis=1)).sum(axis=0)
    assert (mixed.labels != exact.argmax(axis=0)).mean() <= 1e-4
    eight_bits = (weights[:, None] * np.rint(255 * softmax(logits, axis=1))).sum(axis=0)
    assert (eight_bits.argmax(axis=0) != exact.argmax(axis=0)).mean() > 1e-3
    assert mixed.percent is not None
    assert np.abs(mixed.percent - 100 * exact).max() < 0.501
    np.testing.assert_array_equal(mixed.confidence, mixed.percent.max(axis=0))


@settings(deadline=None, max_examples=8)
@given(batch=st.integers(1, 20), seed=st.integers(0, 2**16))
def test_neither_batch_nor_order_matters(
    ortho: Path, expected: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory, batch: int, seed: int
) -> None:
    out = tmp_path_factory.mktemp("order")
    tiles = len(Tiling(SHAPE, tile_px=TILE_PX, halo_px=HALO_PX))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(predict, "remaining", lambda *_: np.random.default_rng(seed).permutation(tiles).tolist())
        mapped(ortho, out, batch=batch)
    assert contents(out) == expected


@pytest.mark.parametrize("call", [0, 2, 5])
def test_a_run_goes_on_with_the_same_bytes(ortho: Path, expected, tmp_path: Path, call: int) -> None:
    broken = JumpingEngine(aerial_manifest(tile_px=TILE_PX), fail_at_call=call)
    with pytest.raises(RuntimeError):
        mapped(ortho, tmp_path / "out", broken, batch=2)
    for other in (BLEND_PX - 1, 0):
        if call:
            with pytest.raises(RasterError, match=f"blend: was {BLEND_PX} px, is {other} px"):
                mapped(ortho, tmp_path / "out", begin="resume", blend_px=other)
    mapped(ortho, tmp_path / "out", begin="resume")
    assert contents(tmp_path / "out") == expected


def test_a_tile_that_could_not_be_read_leaves_its_core_void_alone(
    ortho: Path, values, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiling = Tiling(SHAPE, tile_px=TILE_PX, halo_px=HALO_PX)
    lost = tiling[tiling.columns + 2]

    def fails(reader, place):
        if place == lost:
            raise UnreadableError("the share is slow")
        return read(reader, place)

    read = SceneReader.read
    monkeypatch.setattr(SceneReader, "read", fails)
    monkeypatch.setattr(patience, "PAUSES_S", ())
    summary = mapped(ortho, tmp_path / "out", keep_going=True)
    void = (values == 0).all(axis=0)
    void[lost.core_yx] = True
    np.testing.assert_array_equal(read_raster(summary.files[TASK].labels)[0] == VOID, void)
    assert len(summary.unreadable) == 1


def test_confidence_and_probabilities_are_made_where_they_are_asked_for_alone(ortho: Path, tmp_path: Path) -> None:
    all_of_it = mapped(ortho, tmp_path / "all")
    labels_alone = mapped(ortho, tmp_path / "one", confidence=False, probabilities=False)
    np.testing.assert_array_equal(*(read_raster(each.files[TASK].labels) for each in (all_of_it, labels_alone)))
    assert len(list((tmp_path / "one").iterdir())) == 3


def test_a_cluster_whose_workers_have_several_readers_makes_the_same_map(plans, tmp_path: Path) -> None:
    """With a real network, in other batches, in other processes."""
    pytest.importorskip("distributed")
    plan = plans("aerial")[0]
    rng = np.random.default_rng(1)
    values = np.kron(rng.integers(1, 255, (3, 60, 75)), np.ones((1, 10, 10))).astype(np.uint8)
    values[:, :240, :300] = 0
    path = write_raster(tmp_path / "ortho.tif", values, nodata=0, photometric="RGB")
    scene = Scene(inputs={"AERIAL_RGBI": Source(path=path)})
    made = {}
    with Engine.load(plan, device="cpu") as engine:
        for blend_px in (0, 5):
            summary = predict_raster(engine, scene, tmp_path / str(blend_px), blend_px=blend_px, probabilities=True)
            made[blend_px] = contents(tmp_path / str(blend_px))
    assert made[0] != made[5]
    assert 0 < summary.void_tiles < summary.tiles / 2
    options = MapOptions(blend_px=5, probabilities=True, readers=2, batch=1)
    with open_cluster("local:2") as cluster:
        predict_on_cluster(cluster, plan, scene, tmp_path / "cluster", options, device="cpu")
    assert contents(tmp_path / "cluster") == made[5]
