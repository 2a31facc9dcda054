"""Of a plan's tiles, those that map a scene at the least cost are taken, if they fit the memory that is allowed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from uperfuse.engine import BackendError, Engine, Plan, RasterError
from uperfuse.engine.footprint import resident_bytes
from uperfuse.engine.plan.network import Geometry, Resize
from uperfuse.engine.rasters import MapOptions, Scene
from uperfuse.engine.rasters.tile_choice import TileChoice, choose_tile, parse_bytes, work_bytes, work_gflop
from uperfuse.engine.rasters.tiling import Tiling

from .formula import aerial_manifest, write_raster

OWN, LARGE, HUGE = 64, 96, 256
WORK = {OWN: 1.0, LARGE: 2.3, HUGE: 16.5}
NEEDS = {OWN: 300 * 10**6, LARGE: 500 * 10**6, HUGE: 4 * 10**9}


def manifest_of_three() -> Any:
    """A plan whose larger tiles do a little more for each pixel."""
    own = aerial_manifest(tile_px=OWN)

    def segments(side: int) -> tuple[Any, ...]:
        return tuple(each.model_copy(update={"gflop": WORK[side] / len(own.segments)}) for each in own.segments)

    geometries = tuple(
        Geometry(
            tiles_px={own.base: side},
            label_px=side,
            logits_px=side // 4,
            upsampling=(Resize(px=side, align_corners=True),),
            segments=segments(side),
        )
        for side in (LARGE, HUGE)
    )
    return own.model_copy(update={"segments": segments(OWN), "geometries": geometries, "schema_version": 3})


class Asked:
    """A plan that is open, and a measurement of memory that records what it was asked."""

    def __init__(self) -> None:
        self.plan: Any = SimpleNamespace(path=Path("a.plan"), hash="ab" * 32, manifest=manifest_of_three())
        self.measured: list[int] = []
        self.killed: set[int] = set()

    def footprint(self, plan: Path, plan_hash: str, *, tile_px: int, precision: str, threads: int | None) -> int | None:
        assert (plan, plan_hash, precision, threads) == (Path("a.plan"), "ab" * 32, "bf16", 3)
        self.measured.append(tile_px)
        return NEEDS[tile_px] if tile_px not in self.killed else None

    def choose(self, scene: Scene, options: MapOptions, **asked: Any) -> TileChoice:
        return choose_tile(self.plan, scene, options, precision="bf16", threads=3, footprint=self.footprint, **asked)


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    path = write_raster(tmp_path / "ortho.tif", np.ones((3, 700, 900), np.uint8), photometric="RGB")
    return Scene.from_options([f"AERIAL_RGBI={path}"])


def cost(side: int, halo_px: int) -> float:
    return WORK[side] * len(Tiling((700, 900), tile_px=side, halo_px=halo_px))


def test_the_cheapest_tiles_that_fit_are_taken(scene: Scene) -> None:
    asked = Asked()
    options = MapOptions(halo_px=16, memory_bytes=10**10)
    costs = {side: cost(side, 16) for side in WORK}
    assert min(costs, key=costs.__getitem__) == HUGE
    choice = asked.choose(scene, options)
    assert (choice.tile_px, asked.measured) == (HUGE, [HUGE])
    assert f"{costs[OWN] / costs[HUGE]:.2f} x the work at 64 px" in choice.why
    for side in WORK:
        found = work_gflop(asked.plan.manifest.at(side), (700, 900), options=options)
        assert found == pytest.approx(costs[side])


def test_what_does_not_fit_is_passed_over(scene: Scene) -> None:
    asked = Asked()
    choice = asked.choose(scene, MapOptions(halo_px=16, memory_bytes=10**9))
    assert (choice.tile_px, asked.measured) == (LARGE, [HUGE, LARGE])
    assert "256 px would take 4." in choice.why
    assert choice.options.halo_px == 16


def test_what_runs_out_of_memory_is_passed_over_too(scene: Scene) -> None:
    asked = Asked()
    asked.killed = {HUGE}
    choice = asked.choose(scene, MapOptions(halo_px=16, memory_bytes=10**12))
    assert (choice.tile_px, asked.measured) == (LARGE, [HUGE, LARGE])
    assert "256 px would take more than there is" in choice.why
    asked.killed = set(WORK)
    with pytest.raises(RasterError, match="take more than there is of memory"):
        asked.choose(scene, MapOptions(halo_px=16, memory_bytes=10**12))


def test_eight_bits_are_of_the_plans_own_side(scene: Scene) -> None:
    asked = Asked()
    asked.plan.manifest = asked.plan.manifest.model_copy(update={"quantised": object()})
    choice = choose_tile(asked.plan, scene, MapOptions(), precision="auto", footprint=asked.footprint)
    assert (choice, asked.measured) == (TileChoice(OWN, MapOptions(), ""), [])


def test_a_side_that_the_plan_does_not_have_is_left_to_loading(scene: Scene) -> None:
    asked = Asked()
    for options in (MapOptions(), MapOptions(memory_bytes=10**9)):
        assert asked.choose(scene, options, tile_px=80) == TileChoice(80, options, "")


def test_where_nothing_fits_it_is_said_what_would(scene: Scene) -> None:
    need = NEEDS[OWN] + work_bytes(manifest_of_three().at(OWN), MapOptions(memory_bytes=10**8), batch=1)
    with pytest.raises(
        RasterError, match=rf"tiles of 64 px take {need / 1e9:.2f} GB of memory, and 0\.10 GB are allowed"
    ):
        Asked().choose(scene, MapOptions(memory_bytes=10**8))


def test_a_batch_is_as_large_as_fits_and_never_larger_than_usual(scene: Scene) -> None:
    asked = Asked()
    usual = MapOptions().batch_of(HUGE)
    large = MapOptions(memory_bytes=10**10, probabilities=True)
    assert asked.choose(scene, large, tile_px=HUGE).options.batch == usual
    manifest = asked.plan.manifest.at(HUGE)
    seven, eight = (work_bytes(manifest, large, batch=batch) for batch in (7, 8))
    tight = MapOptions(memory_bytes=NEEDS[HUGE] + (seven + eight) // 2, probabilities=True)
    assert asked.choose(scene, tight, tile_px=HUGE).options.batch == 7 < usual
    own = MapOptions(memory_bytes=10**10, batch=5)
    assert asked.choose(scene, own, tile_px=HUGE).options.batch == 5


def test_more_is_on_its_way_with_logits_readers_and_larger_batches() -> None:
    manifest = aerial_manifest(tile_px=OWN)
    plain = work_bytes(manifest, MapOptions(), batch=1)
    assert work_bytes(manifest, MapOptions(), batch=3) > plain
    assert work_bytes(manifest, MapOptions(probabilities=True), batch=1) > plain
    assert work_bytes(manifest, MapOptions(blend_px=4), batch=1) > plain
    assert work_bytes(manifest, MapOptions(readers=2), batch=1) > plain
    assert work_bytes(manifest, MapOptions(memory_bytes=8 * 10**8), batch=1) < plain


def test_a_side_that_is_asked_for_is_taken_without_a_question(scene: Scene) -> None:
    asked = Asked()
    choice = asked.choose(scene, MapOptions(), tile_px=LARGE)
    assert (choice, asked.measured) == (TileChoice(LARGE, MapOptions(), ""), [])


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("4GB", 4 * 10**9),
        ("4g", 4 * 10**9),
        ("512 MiB", 2**29),
        ("0.5 GiB", 2**29),
        ("100000", 100_000),
        ("1TB", 10**12),
    ],
)
def test_amounts_of_memory(text: str, found: int) -> None:
    assert parse_bytes(text) == found


@pytest.mark.parametrize("text", ["", "much", "-1GB", "4 gigs", "4iB", "1e9"])
def test_what_is_no_amount_of_memory_is_refused(text: str) -> None:
    with pytest.raises(RasterError, match="expected a number with a unit, such as 4GB"):
        parse_bytes(text)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache/uperfuse/footprints"


def test_memory_is_measured_once_and_is_that_of_one_tile(plans: Any, cache: Path) -> None:
    path = plans("aerial")[0]
    with Plan.open(path) as plan:
        asked = {"tile_px": plan.manifest.base_px, "precision": "float32", "threads": 1}
        found = resident_bytes(path, plan.hash, **asked)
        assert 50 * 10**6 < found < 2 * 10**9
        (kept,) = cache.iterdir()
        kept.write_text("123")
        assert resident_bytes(path, plan.hash, **asked) == 123
        kept.write_text("spoilt")
        assert resident_bytes(path, plan.hash, **asked) == pytest.approx(found, rel=0.2)
        with pytest.raises(BackendError, match=r"a tile of 77 px cannot be measured: .*has no tiles of 77 px"):
            resident_bytes(path, plan.hash, **{**asked, "tile_px": 77})


def test_without_a_home_memory_is_measured_each_time(plans: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def lost() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr("uperfuse.engine.footprint.cache_root", lost)
    path = plans("aerial")[0]
    with Plan.open(path) as plan:
        found = resident_bytes(path, plan.hash, tile_px=plan.manifest.base_px, precision="float32", threads=1)
    assert found is not None
    assert found > 50 * 10**6


def test_a_run_stays_within_its_budget(plans: Any, tmp_path: Path, cache: Path) -> None:
    """As a user runs it, on a raster that is many times as large as what may be in memory beside the network."""
    path = plans("aerial")[0]
    with Engine.load(path, precision="float32") as engine:
        bands = engine.manifest.modality(engine.manifest.base).bands
    values = np.random.default_rng(0).integers(0, 255, (len(bands), 6000, 8000), np.uint8)
    raster = write_raster(tmp_path / "ortho.tif", values, names=bands, compress="deflate", tiled=True)
    with Plan.open(path) as plan:
        network = resident_bytes(path, plan.hash, tile_px=plan.manifest.base_px, precision="float32", threads=1)
        manifest = plan.manifest
    assert network is not None
    budget = network + 220 * 10**6
    assert work_bytes(manifest, MapOptions(memory_bytes=budget), batch=1) < 220 * 10**6
    program = (
        "import sys; from uperfuse.engine.cli import main\n"
        "try: main()\n"
        "finally: print(next(x for x in open('/proc/self/status') if x.startswith('VmHWM')))"
    )
    arguments = ["predict", path, "--input", f"AERIAL_RGBI={raster}", "-o", tmp_path / "maps", "--device", "cpu"]
    arguments += ["--precision", "float32", "--threads", 1, "--memory", str(budget)]
    done = subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)], capture_output=True, text=True, check=True
    )
    assert "of memory" not in done.stderr
    held = int(done.stdout.rsplit("VmHWM:", 1)[1].split()[0]) * 1024
    assert held <= budget
