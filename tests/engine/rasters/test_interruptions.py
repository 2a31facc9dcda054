"""Runs that are stopped in every way, and go on: the maps are those of a run that was left alone, byte for byte."""

from __future__ import annotations

import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import rasterio

from uperfuse.engine.errors import RasterError
from uperfuse.engine.rasters import MapSummary, Scene, Source, mosaic, patience, predict_raster
from uperfuse.engine.rasters.files import UnreadableError
from uperfuse.engine.rasters.reader import SceneReader
from uperfuse.engine.rasters.run.journal import Journal

from .formula import FormulaEngine, aerial_manifest, read_raster, write_raster

KILLS = 50
RUN = """
import sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from tests.engine.rasters.formula import FormulaEngine, aerial_manifest
from uperfuse.engine.rasters import Scene, Source, predict_raster

class Slow(FormulaEngine):
    def predict(self, *arguments, **options):
        time.sleep(float(sys.argv[4]))
        return super().predict(*arguments, **options)

scene = Scene(inputs={"AERIAL_RGBI": Source(path=Path(sys.argv[2]))})
print("begins", flush=True)
predict_raster(Slow(aerial_manifest()), scene, sys.argv[3], batch=4, begin="resume", probabilities=True)
"""


@pytest.fixture
def ortho(tmp_path: Path) -> Path:
    """An aerial image with a void corner, compressed by blocks."""
    rng = np.random.default_rng(0)
    values = np.kron(rng.integers(1, 255, (3, 60, 90)), np.ones((1, 7, 7))).astype(np.uint8)
    values[:, :100, :150] = 0
    options = {
        "nodata": 0,
        "photometric": "RGB",
        "compress": "DEFLATE",
        "tiled": True,
        "blockxsize": 64,
        "blockysize": 64,
    }
    return write_raster(tmp_path / "ortho.tif", values, **options)


def predict(ortho: Path, out: Path, *, engine: FormulaEngine | None = None, **options) -> MapSummary:
    engine = engine or FormulaEngine(aerial_manifest())
    scene = Scene(inputs={"AERIAL_RGBI": Source(path=ortho)})
    return predict_raster(engine, scene, out, **{"batch": 4, "probabilities": True, **options})


def contents(out: Path) -> dict[str, bytes]:
    """Every file of a folder, hidden ones and folders included."""
    return {path.name: path.read_bytes() for path in out.iterdir()}


@pytest.fixture
def expected(ortho: Path, tmp_path: Path) -> dict[str, bytes]:
    """Maps of a run that nothing stopped."""
    predict(ortho, tmp_path / "expected")
    return contents(tmp_path / "expected")


def test_it_survives_being_killed_at_any_moment(ortho: Path, expected: dict[str, bytes], tmp_path: Path) -> None:
    root, out = Path(__file__).resolve().parents[3], tmp_path / "out"
    moments = random.Random(7)
    kills = completed = 0
    while kills < KILLS or not completed:
        pause = moments.choice(("0", "0.01"))
        command = [sys.executable, "-c", RUN, str(root), str(ortho), str(out), pause]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "begins\n"
            try:
                assert process.wait(moments.uniform(0, 0.5) if kills < KILLS else 60) == 0
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                kills += 1
                visible = {path.name: path.read_bytes() for path in out.glob("[!.]*")}
                assert visible.items() <= expected.items()
                if visible != expected or list(out.glob(".*/journal.sqlite")):
                    continue
        completed += 1
        assert {path.name: path.read_bytes() for path in out.glob("[!.]*")} == expected
        shutil.rmtree(out)


@pytest.mark.parametrize("call", [0, 1, 5, 9])
@pytest.mark.parametrize("error", [RuntimeError("broken"), KeyboardInterrupt()])
def test_what_is_finished_is_not_computed_again(
    ortho: Path, expected: dict[str, bytes], tmp_path: Path, call: int, error: BaseException
) -> None:
    broken = FormulaEngine(aerial_manifest(), fail_at_call=call, error=error)
    with pytest.raises(type(error)):
        predict(ortho, tmp_path / "out", engine=broken)
    whole = FormulaEngine(aerial_manifest())
    summary = predict(ortho, tmp_path / "out", engine=whole, begin="resume")
    computed = [sum(len(made["AERIAL_RGBI"]) for made in engine.calls) for engine in (broken, whole)]
    assert sum(computed) == summary.tiles - summary.void_tiles
    assert contents(tmp_path / "out") == expected


def test_an_interrupted_run_tells_what_an_uninterrupted_one_does(ortho: Path, tmp_path: Path) -> None:
    whole = predict(ortho, tmp_path / "whole")
    with pytest.raises(RuntimeError):
        predict(ortho, tmp_path / "out", engine=FormulaEngine(aerial_manifest(), fail_at_call=3))
    resumed = predict(ortho, tmp_path / "out", begin="resume")
    for name in ("pixels", "areas_ha", "tiles", "void_tiles", "void_fraction", "messages"):
        assert getattr(resumed, name) == getattr(whole, name), name


def interrupted(ortho: Path, out: Path) -> Path:
    """A run that stopped in the middle; its folder."""
    with pytest.raises(RuntimeError):
        predict(ortho, out, engine=FormulaEngine(aerial_manifest(), fail_at_call=4))
    (folder,) = out.iterdir()
    return folder


def test_it_is_neither_forgotten_nor_thrown_away_unasked(
    ortho: Path, expected: dict[str, bytes], tmp_path: Path
) -> None:
    folder = interrupted(ortho, tmp_path / "out")
    for overwrite in (False, True):
        with pytest.raises(RasterError, match=rf"interrupted run is kept in {folder}, with \d+ of \d+ tiles; go on"):
            predict(ortho, tmp_path / "out", overwrite=overwrite)
    engine = FormulaEngine(aerial_manifest())
    predict(ortho, tmp_path / "out", engine=engine, begin="restart")
    assert contents(tmp_path / "out") == expected
    fresh = FormulaEngine(aerial_manifest())
    predict(ortho, tmp_path / "fresh", engine=fresh, begin="resume")  # of nothing
    assert len(fresh.calls) == len(engine.calls)
    assert contents(tmp_path / "fresh") == expected


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"halo_px": 4}, "halo: was 8 px, is 4 px"),
        ({"probabilities": False}, "maps: was .*probabilities.tif of 4, is "),
        ({"engine": FormulaEngine(aerial_manifest(), plan_hash="cd" * 32)}, "plan: was abab.*, is cdcd"),
        ({"engine": FormulaEngine(aerial_manifest(), precision="bf16")}, "precision: was float32, is bf16"),
        ({"engine": FormulaEngine(aerial_manifest(), device="cuda:0")}, "device: was cpu, is cuda"),
    ],
)
def test_another_plan_or_option_is_refused_with_the_difference(
    ortho: Path, tmp_path: Path, change: dict, said: str
) -> None:
    interrupted(ortho, tmp_path / "out")
    with pytest.raises(RasterError, match=f"was begun otherwise: {said}.*--restart"):
        predict(ortho, tmp_path / "out", begin="resume", **change)
    predict(ortho, tmp_path / "out", begin="resume")


def test_another_raster_is_refused_with_the_difference(ortho: Path, tmp_path: Path) -> None:
    interrupted(ortho, tmp_path / "out")
    os.utime(ortho, (1, 1))
    with pytest.raises(RasterError, match=rf"{ortho}: was \d+ bytes of 20.* UTC, is \d+ bytes of 1970-01-01 00:00:01"):
        predict(ortho, tmp_path / "out", begin="resume")


def test_a_raster_that_changes_meanwhile_stops_the_run(ortho: Path, tmp_path: Path) -> None:
    class Editor(FormulaEngine):
        def predict(self, *arguments, **options):
            if len(self.calls) == 3:
                ortho.write_bytes(ortho.read_bytes() + b"\0")
            return super().predict(*arguments, **options)

    with pytest.raises(RasterError, match=rf"{ortho} has changed during the run: it was .*--restart"):
        predict(ortho, tmp_path / "out", engine=Editor(aerial_manifest()), batch=1, keep_going=True)
    assert not list((tmp_path / "out").glob("[!.]*"))


@pytest.mark.parametrize("nth", [1, 2, 4])
def test_it_survives_a_crash_while_maps_get_their_names(
    ortho: Path, expected: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nth: int
) -> None:
    def crash(source: Path, target: Path) -> None:
        renamed.append(target)
        if len(renamed) == nth:
            raise KeyboardInterrupt
        replace(source, target)

    renamed: list[Path] = []
    replace = os.replace
    monkeypatch.setattr(mosaic.os, "replace", crash)
    with pytest.raises(KeyboardInterrupt):
        predict(ortho, tmp_path / "out")
    monkeypatch.undo()
    engine = FormulaEngine(aerial_manifest())
    predict(ortho, tmp_path / "out", engine=engine, begin="resume")
    assert engine.calls == []
    assert contents(tmp_path / "out") == expected


def test_two_processes_do_not_work_on_one_run(ortho: Path, tmp_path: Path) -> None:
    class Second(FormulaEngine):
        def predict(self, *arguments, **options):
            if not self.calls:
                with pytest.raises(RasterError, match=r"another process works on .*; wait for it, or stop it"):
                    predict(ortho, tmp_path / "out", begin="resume")
                with pytest.raises(RasterError, match="another process works on"):
                    predict(ortho, tmp_path / "out", begin="restart")
            return super().predict(*arguments, **options)

    summary = predict(ortho, tmp_path / "out", engine=Second(aerial_manifest()))
    assert read_raster(summary.files["LAND"].labels).shape == (1, 420, 630)


def test_a_damaged_journal_is_found_out(ortho: Path, expected: dict[str, bytes], tmp_path: Path) -> None:
    folder = interrupted(ortho, tmp_path / "out")
    with sqlite3.connect(folder / "journal.sqlite") as base:
        ((tile, name, data),) = base.execute("SELECT tile, map, data FROM maps ORDER BY tile DESC LIMIT 1").fetchall()
        damaged = bytearray(data)
        damaged[len(data) // 2] ^= 1
        base.execute("UPDATE maps SET data = ? WHERE tile = ? AND map = ?", (bytes(damaged), tile, name))
    base.close()
    with pytest.raises(RasterError, match=r"journal\.sqlite is damaged: .*--restart"):
        predict(ortho, tmp_path / "out", begin="resume")
    (folder / "journal.sqlite").write_bytes(b"no database" * 1000)
    with pytest.raises(RasterError, match=r"journal\.sqlite is damaged: .*--restart"):
        predict(ortho, tmp_path / "out", begin="resume")
    predict(ortho, tmp_path / "out", begin="restart")
    assert contents(tmp_path / "out") == expected


HALF_MADE = """
import os, sqlite3, sys
base = sqlite3.connect(sys.argv[1], isolation_level=None)
base.execute("PRAGMA locking_mode = EXCLUSIVE")
base.execute("PRAGMA journal_mode = TRUNCATE")
base.execute("PRAGMA cache_size = 1")  # so that what is not committed reaches the file
base.execute("BEGIN EXCLUSIVE")
base.execute("CREATE TABLE settings (name TEXT PRIMARY KEY, value TEXT NOT NULL)")
base.execute("INSERT INTO settings VALUES ('a', ?)", ("b" * 100_000,))
os._exit(9)
"""


def test_a_journal_that_was_half_made_is_made_anew(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    assert subprocess.run([sys.executable, "-c", HALF_MADE, str(path)], check=False).returncode == 9
    assert path.stat().st_size > 0
    with closing(Journal(path)) as journal:
        assert journal.settings() == {}
        assert journal.tiles() == {}
        journal.begin({"plan": "abc"})
    with closing(Journal(path)) as journal:
        assert journal.settings() == {"plan": "abc"}


@pytest.mark.parametrize("same", [True, False])
def test_tiles_that_another_process_left_are_those_of_the_same_run_alone(
    ortho: Path, expected: dict[str, bytes], tmp_path: Path, same: bool
) -> None:
    """A worker of a cluster may leave tiles of a run that was thrown away meanwhile, or of another plan."""
    other = FormulaEngine(aerial_manifest(), plan_hash="ab" * 32 if same else "cd" * 32, fail_at_call=4)
    with pytest.raises(RuntimeError):
        predict(ortho, tmp_path / "out", engine=other, readers=1)  # batches are whole then
    (folder,) = (tmp_path / "out").iterdir()
    (folder / "shares").mkdir()
    (folder / "journal.sqlite").rename(folder / "shares" / "left.share")
    engine = FormulaEngine(aerial_manifest())
    summary = predict(ortho, tmp_path / "out", engine=engine)
    computed = sum(len(call["AERIAL_RGBI"]) for call in engine.calls)
    wanted = summary.tiles - summary.void_tiles
    assert computed == (wanted - 16 if same else wanted)
    assert contents(tmp_path / "out") == expected


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """A folder on a file system of the size that is asked for; asked again, the size changes."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = False

    def mount(size: str) -> Path:
        nonlocal mounted
        option = f"remount,size={size}" if mounted else f"size={size}"
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", option, "tmpfs", folder], capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")
        mounted = True
        return folder

    yield mount
    if mounted:
        subprocess.run(["umount", folder], check=True)


def test_a_full_disk_loses_nothing(
    ortho: Path, expected: dict[str, bytes], tmp_path: Path, small_disk: Callable[[str], Path]
) -> None:
    needed = sum(map(len, expected.values()))
    sizes = [*(f"{share * needed // 100 // 4096 * 4}k" for share in (20, 60, 150, 250)), "16m"]
    stopped = 0
    for size in sizes:
        out = small_disk(size) / "out"
        try:
            predict(ortho, out, begin="resume")
        except RasterError as error:
            assert "cannot be written" in str(error)  # noqa: PT017  that it succeeds at last is asserted below
            stopped += 1
            assert not list(out.glob("[!.]*"))
    assert stopped >= 2
    assert contents(out) == expected


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """No pause before another try."""
    monkeypatch.setattr(patience, "PAUSES_S", (0.0, 0.0))


def damage(ortho: Path, *, block: int) -> None:
    """Make one block of a tiled GeoTIFF unreadable."""
    with rasterio.open(ortho) as dataset:
        row, column = divmod(block, -(-dataset.width // 64))
        offset = int(dataset.get_tag_item(f"BLOCK_OFFSET_{column}_{row}", "TIFF", bidx=1))
    with ortho.open("r+b") as file:
        file.seek(offset)
        file.write(b"\xff" * 16)


@pytest.mark.usefixtures("hurried")
def test_a_damaged_block_stops_the_run_or_leaves_its_tiles_void(ortho: Path, tmp_path: Path) -> None:
    whole = read_raster(predict(ortho, tmp_path / "whole").files["LAND"].labels)[0]
    damage(ortho, block=3 * 10 + 5)  # rows 192 to 255, columns 320 to 383
    place = r"rows \d+ to \d+, columns \d+ to \d+: .*ortho\.tif cannot be read: .*\(tried 3 times\)"
    with pytest.raises(RasterError, match=f"^{place}"):
        predict(ortho, tmp_path / "out")
    summary = predict(ortho, tmp_path / "out", begin="resume", keep_going=True)
    labels = read_raster(summary.files["LAND"].labels)[0]
    lost = labels != whole
    assert (labels[lost] == 255).all()
    assert lost[192:256, 320:384].all()
    assert lost.sum() <= (3 * 64) ** 2
    assert 0 < len(summary.unreadable) < 12
    assert f"{len(summary.unreadable)} tiles could not be read and are void: rows" in summary.messages[-1]
    assert summary.void_tiles + len(summary.unreadable) < summary.tiles


@pytest.mark.usefixtures("hurried")
def test_what_could_not_be_read_is_tried_again_when_the_run_goes_on(
    ortho: Path, expected: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(reader, place):
        if place.rows.start > 200:
            raise UnreadableError("the share is slow")
        return read(reader, place)

    read = SceneReader.read
    monkeypatch.setattr(SceneReader, "read", fails)
    monkeypatch.setattr(mosaic.Assembly, "finish", lambda self: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        predict(ortho, tmp_path / "out", keep_going=True)
    monkeypatch.undo()
    summary = predict(ortho, tmp_path / "out", begin="resume")
    assert summary.unreadable == ()
    assert contents(tmp_path / "out") == expected


@pytest.mark.usefixtures("hurried")
def test_what_can_be_read_the_next_time_is_not_missed(
    ortho: Path, expected: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def every_third_time(reader, place):
        tries.append(place)
        if len(tries) % 3:
            raise UnreadableError("the share was away")
        return read(reader, place)

    tries: list = []
    read = SceneReader.read
    monkeypatch.setattr(SceneReader, "read", every_third_time)
    predict(ortho, tmp_path / "out")
    assert contents(tmp_path / "out") == expected


def test_a_share_that_is_gone_stops_the_run_even_if_it_is_to_keep_going(ortho: Path, tmp_path: Path) -> None:
    class Remover(FormulaEngine):
        def predict(self, *arguments, **options):
            if len(self.calls) == 2:
                ortho.rename(ortho.with_suffix(".gone"))
            return super().predict(*arguments, **options)

    with pytest.raises(RasterError, match=r"ortho\.tif (has changed during the run: .* is not a file|cannot be)"):
        predict(ortho, tmp_path / "out", engine=Remover(aerial_manifest()), batch=1, keep_going=True)
    ortho.with_suffix(".gone").rename(ortho)
    assert predict(ortho, tmp_path / "out", begin="resume").unreadable == ()
