"""Several readers make the map of one, whatever happens to them, and leave nothing behind."""

from __future__ import annotations

import datetime
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from io import FileIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.processes import GONE_S, have_ended
from uperfuse.engine.errors import BackendError, RasterError
from uperfuse.engine.rasters import MapOptions, MapSummary, Scene, Source, pace, patience, predict_raster, readers
from uperfuse.engine.rasters.files import UnreadableError
from uperfuse.engine.rasters.frames import receive, send
from uperfuse.engine.rasters.reader import TileInputs
from uperfuse.engine.rasters.tile_reader import Answer, ReadTile, TileReader
from uperfuse.engine.rasters.tiling import Tiling

from .formula import TASK, FormulaEngine, aerial_manifest, make_manifest, make_modality, read_raster, write_raster

calmly = settings(deadline=None)  # the machine may be busy
MAPPING = """
import signal, sys, time
from pathlib import Path
signal.signal(signal.SIGINT, signal.default_int_handler)  # which whoever runs tests in the background has switched off
sys.path.insert(0, sys.argv[1])
from tests.engine.rasters.formula import FormulaEngine, aerial_manifest
from uperfuse.engine.rasters import Scene, Source, predict_raster, readers

class Slow(FormulaEngine):
    def predict(self, *arguments, **options):
        if not self.calls:
            print(*pids, flush=True)
        time.sleep(0.1)
        return super().predict(*arguments, **options)

def running(process):
    started = start(process)
    pids.append(started.pid) if started.pid not in pids else None
    return started

pids, start = [], readers._Process._running
readers._Process._running = running
scene = Scene(inputs={"AERIAL_RGBI": Source(path=Path(sys.argv[2]))})
predict_raster(Slow(aerial_manifest()), scene, sys.argv[3], batch=2, readers=2, report=print)
"""


@pytest.fixture(scope="module")
def ortho(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An aerial image of 70 tiles with a void corner, in blocks."""
    rng = np.random.default_rng(0)
    values = np.kron(rng.integers(1, 255, (3, 48, 70)), np.ones((1, 7, 7))).astype(np.uint8)
    values[:, :100, :150] = 0
    blocks = {"tiled": True, "blockxsize": 64, "blockysize": 64, "compress": "DEFLATE"}
    return write_raster(tmp_path_factory.mktemp("readers") / "ortho.tif", values, nodata=0, photometric="RGB", **blocks)


def mapped(ortho: Path, out: Path, engine: FormulaEngine | None = None, **options: Any) -> MapSummary:
    engine = engine or FormulaEngine(aerial_manifest())
    scene = Scene(inputs={"AERIAL_RGBI": Source(path=ortho)})
    return predict_raster(engine, scene, out, **{"batch": 4, "readers": 2, **options})


def contents(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in out.iterdir()}


@pytest.fixture(scope="module")
def expected(ortho: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Maps of one reader."""
    out = tmp_path_factory.mktemp("expected")
    mapped(ortho, out, readers=1)
    return contents(out)


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Reader processes that were started; none is left in the end."""

    def running(process: readers._Process) -> subprocess.Popen[bytes]:
        found = start(process)
        if found not in processes:
            processes.append(found)
        return found

    processes: list[subprocess.Popen[bytes]] = []
    start = readers._Process._running
    monkeypatch.setattr(readers._Process, "_running", running)
    yield processes
    assert all(process.returncode is not None for process in processes)


@pytest.mark.parametrize(("count", "batch"), [(2, 1), (3, 8), (11, 4)])
def test_any_number_of_readers_makes_the_map_of_one(
    ortho: Path, expected, tmp_path: Path, started, count: int, batch: int
) -> None:
    summary = mapped(ortho, tmp_path / "out", readers=count, batch=batch)
    assert contents(tmp_path / "out") == expected
    assert 1 < len(started) <= count
    assert 0 < summary.seconds["read"] < summary.seconds["mapping"]


class SlowDisk:
    """Reading in this process takes a while; in others it does not, as if there were a disk for each."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
        read = TileReader.read

        def slowly(reader: TileReader, tile: int) -> Any:
            self.tiles += 1
            time.sleep(seconds)
            return read(reader, tile)

        self.tiles = 0
        monkeypatch.setattr(TileReader, "read", slowly)
        monkeypatch.setattr(readers, "usable_cores", lambda: 3)


def test_where_reading_sets_the_pace_processes_read_on(
    ortho: Path, expected, tmp_path: Path, started, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = SlowDisk(monkeypatch, 0.1)
    monkeypatch.setattr(pace, "_STARTING_S", 0.1)
    summary = mapped(ortho, tmp_path / "out", readers=None, batch=4)
    assert contents(tmp_path / "out") == expected
    assert len(started) == 3
    assert disk.tiles == 4 + 8
    assert "reading set the pace of the first tiles; 3 processes read the others" in summary.messages


@pytest.mark.parametrize("batch", [1, 4, 30, 64])
def test_where_it_would_not_pay_one_reader_reads_on(ortho: Path, expected, tmp_path: Path, started, batch: int) -> None:
    summary = mapped(ortho, tmp_path / "out", readers=None, batch=batch)
    assert contents(tmp_path / "out") == expected
    assert not started
    assert not any("processes read" in message for message in summary.messages)


def test_a_budget_of_memory_forbids_more_readers() -> None:
    assert MapOptions(readers=None).first_readers is None
    assert MapOptions(readers=None, memory_bytes=2**32).first_readers == 1
    assert MapOptions(memory_bytes=2**32, readers=3).first_readers == 3


@pytest.mark.parametrize(
    ("read_s", "rest_s", "tiles", "cores", "count"),
    [
        (0.010, 0.020, 10**6, 16, 1),  # the network sets the pace
        (0.060, 0.020, 10**6, 16, 3),
        (0.061, 0.020, 10**6, 16, 4),
        (0.500, 0.020, 10**6, 8, 8),
        (0.500, 0.020, 10**6, 1, 1),
        (0.060, 0.020, 100, 16, 1),  # four seconds saved, six spent
        (0.060, 0.020, 151, 16, 3),
        (0.060, 0.000, 10**6, 16, 1),  # all void: nothing is known of the network
        (0.020, 0.020, 10**6, 16, 1),
    ],
)
def test_as_many_readers_as_keep_up(read_s: float, rest_s: float, tiles: int, cores: int, count: int) -> None:
    assert pace.readers_needed(read_s=read_s, rest_s=rest_s, tiles=tiles, cores=cores) == count


@pytest.mark.parametrize("layout", [{}, {"tiled": True, "blockxsize": 16, "blockysize": 16}])
def test_layouts_of_the_raster_and_an_area(ortho: Path, tmp_path: Path, layout: dict) -> None:
    pyogrio, shapely = pytest.importorskip("pyogrio"), pytest.importorskip("shapely")
    values = read_raster(ortho)
    path = write_raster(tmp_path / "again.tif", values, nodata=0, photometric="RGB", **layout)
    area = shapely.Polygon([(843002, 6518999), (843088, 6518990), (843060, 6518940)])
    pyogrio.raw.write(
        tmp_path / "area.gpkg",
        geometry=np.array([shapely.to_wkb(area)], object),
        field_data=[],
        fields=[],
        geometry_type="Polygon",
        crs="EPSG:2154",
    )
    one, three = (mapped(path, tmp_path / str(count), readers=count, area=tmp_path / "area.gpkg") for count in (1, 3))
    assert contents(tmp_path / "1") == contents(tmp_path / "3")
    assert (one.pixels, one.void_tiles) == (three.pixels, three.void_tiles)
    assert 0.3 < one.void_fraction < 1


def test_series_with_dates_and_masks_arrive_as_they_are_read(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    manifest = make_manifest(make_modality("AERIAL_RGBI", bands=("R",), tile_px=64), make_modality("SENTINEL2_TS"))
    aerial = write_raster(tmp_path / "ortho.tif", rng.integers(1, 255, (1, 150, 170), np.uint8))
    far = {"transform": aerial_place(10.0)}
    series = write_raster(tmp_path / "s2.tif", rng.integers(1, 3000, (30, 12, 12), np.uint16), **far)
    snow_cloud = np.repeat([0, 0, 99, 99, 0, 0], 1)[:, None, None] * np.ones((6, 12, 12), np.uint8)
    mask = write_raster(tmp_path / "mask.tif", snow_cloud.astype(np.uint8), **far)
    dates = [datetime.date(2021, month, 2) for month in (3, 6, 9)]
    scene = Scene(
        inputs={"AERIAL_RGBI": Source(path=aerial), "SENTINEL2_TS": Source(path=series, mask=mask, dates=dates)}
    )
    seen = []
    for count in (1, 2):
        engine = FormulaEngine(manifest)
        predict_raster(engine, scene, tmp_path / str(count), readers=count, batch=1)
        tiles = {call["AERIAL_RGBI"].tobytes(): call for call in engine.calls}
        seen.append([tiles[key] for key in sorted(tiles)])
    for one, two in zip(*seen, strict=True):
        assert one.keys() == two.keys()
        np.testing.assert_array_equal(one["SENTINEL2_TS"][0], two["SENTINEL2_TS"][0])
        np.testing.assert_array_equal(one["SENTINEL2_DATES"][0], two["SENTINEL2_DATES"][0])
        assert len(one["SENTINEL2_DATES"][0]) == 2
        np.testing.assert_array_equal(one["voids"]["SENTINEL2_TS"][0], two["voids"]["SENTINEL2_TS"][0])


def aerial_place(gsd_m: float) -> Any:
    from rasterio import Affine

    return Affine(gsd_m, 0, 842960.0, 0, -gsd_m, 6519040.0)


def test_readers_that_are_killed_are_replaced_and_their_tiles_read_again(
    ortho: Path, expected, tmp_path: Path, started
) -> None:
    moments = random.Random(4)

    class Killer(FormulaEngine):
        def predict(self, *arguments, **options):
            alive = [process for process in started if process.poll() is None]
            if alive and len(self.calls) % 6 == 1:
                moments.choice(alive).send_signal(signal.SIGKILL)
            return super().predict(*arguments, **options)

    engine, undisturbed = Killer(aerial_manifest()), FormulaEngine(aerial_manifest())
    summary = mapped(ortho, tmp_path / "out", engine, batch=2)
    assert len(started) > 3
    assert any("a reader died and was replaced" in sentence for sentence in summary.messages)
    assert contents(tmp_path / "out") == expected
    summary = mapped(ortho, tmp_path / "undisturbed", undisturbed, batch=2)
    assert not any("died" in sentence for sentence in summary.messages)
    for one, other in zip(engine.calls, undisturbed.calls, strict=True):  # in the same batches, one after the other
        np.testing.assert_array_equal(one["AERIAL_RGBI"], other["AERIAL_RGBI"])


def run_instead(monkeypatch: pytest.MonkeyPatch, program: str) -> None:
    """Have readers run another program, which may put `sys.path` in where it says {path}."""
    command = [sys.executable, "-c", program.format(path=sys.path)]
    monkeypatch.setattr(readers, "python_command", lambda _: command)


DEADLY = """
import os, signal, sys
sys.path[:] = {path!r}
from uperfuse.engine.rasters.reader import SceneReader
from uperfuse.engine.rasters.reader_process import main

def read(reader, place):
    if (place.rows.start, place.columns.start) == (96, 240):
        os.kill(os.getpid(), signal.SIGKILL)
    return alive(reader, place)

alive, SceneReader.read = SceneReader.read, read
main()
"""


def test_a_tile_that_readers_die_of_stops_the_run_or_is_left_void(
    ortho: Path, expected, tmp_path: Path, started, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_instead(monkeypatch, DEADLY)
    said = r"rows 104 to 151, columns 248 to 295: 3 readers died of it one after the other, the last by SIGKILL; look"
    with pytest.raises(UnreadableError, match=said):
        mapped(ortho, tmp_path / "out")
    assert len(started) <= 2 + 3  # the third goes on with what was asked of it
    summary = mapped(ortho, tmp_path / "out", begin="resume", keep_going=True)
    assert len(summary.unreadable) == 1
    lost = read_raster(summary.files[TASK].labels)[0]
    mapped(ortho, tmp_path / "whole", readers=1)
    whole = read_raster(tmp_path / "whole" / summary.files[TASK].labels.name)[0]
    core = np.zeros(whole.shape, np.bool_)
    core[104:152, 248:296] = True
    assert (lost[core] == 255).all()
    np.testing.assert_array_equal(lost[~core], whole[~core])


def test_a_reader_that_cannot_begin_stops_the_run(ortho: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_instead(monkeypatch, "raise SystemExit(3)")
    with pytest.raises(RasterError, match=r"3 readers died .* the last with exit status 3; .* use --readers 1"):
        mapped(ortho, tmp_path / "out")


HURRIED = """
import sys
sys.path[:] = {path!r}
from uperfuse.engine.rasters import patience, reader_process
patience.PAUSES_S = (0.0, 0.0)
reader_process.main()
"""


def test_what_cannot_be_read_is_said_in_the_same_words(
    ortho: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience, "PAUSES_S", (0.0, 0.0))
    run_instead(monkeypatch, HURRIED)
    damaged = tmp_path / "ortho.tif"
    content = bytearray(ortho.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 40] = b"\xff" * 40
    damaged.write_bytes(content)
    said = []
    for count in (1, 2):
        summary = mapped(damaged, tmp_path / str(count), readers=count, keep_going=True)
        said.append(sorted(summary.unreadable))
        with pytest.raises(RasterError, match=r"^rows .* cannot be read: .*\(tried 3 times\)$"):
            mapped(damaged, tmp_path / f"stops-{count}", readers=count)
    assert said[0] == said[1] != []


def test_a_raster_that_changes_meanwhile_stops_the_run(ortho: Path, tmp_path: Path) -> None:
    copy = tmp_path / "ortho.tif"
    copy.write_bytes(ortho.read_bytes())

    class Editor(FormulaEngine):
        def predict(self, *arguments, **options):
            if len(self.calls) == 2:
                copy.write_bytes(copy.read_bytes() + b"\0")
            return super().predict(*arguments, **options)

    with pytest.raises(RasterError, match=rf"{copy} has changed during the run: it was .*--restart"):
        mapped(copy, tmp_path / "out", Editor(aerial_manifest()), batch=1, keep_going=True)


FAILING = """
import sys
sys.path[:] = {path!r}
from uperfuse.engine.rasters import reader_process

def read(reader, tile):
    raise MemoryError("no room\\nfor a tile")

reader_process.TileReader.read = read
reader_process.main()
"""


def test_what_else_goes_wrong_in_a_reader_is_told(ortho: Path, tmp_path: Path, monkeypatch) -> None:
    run_instead(monkeypatch, FAILING)
    with pytest.raises(BackendError, match=r"^a reader failed at tile \d+: MemoryError: no room for a tile; read with"):
        mapped(ortho, tmp_path / "out")


def test_no_reader_is_refused(ortho: Path, tmp_path: Path) -> None:
    with pytest.raises(RasterError, match="0 readers, expected at least 1; leave it out for as many as are needed"):
        mapped(ortho, tmp_path / "out", readers=0)


@pytest.mark.parametrize("with_what", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_no_reader_outlives_the_mapping_process(ortho: Path, expected, tmp_path: Path, with_what: int) -> None:
    root = Path(__file__).resolve().parents[3]
    command = [sys.executable, "-c", MAPPING, str(root), str(ortho), str(tmp_path / "out")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        pids = next([int(pid) for pid in line.split()] for line in process.stdout if line[0].isdigit())
        assert len(pids) == 2
        process.send_signal(with_what)
        _, said = process.communicate(timeout=60)
        assert process.returncode != 0
    assert have_ended(pids)
    if with_what == signal.SIGINT:
        assert said.count("Traceback") == said.count("KeyboardInterrupt") == 1
    mapped(ortho, tmp_path / "out", begin="resume")
    assert contents(tmp_path / "out") == expected


STUCK = """
import signal, sys, time
from pathlib import Path
signal.signal(signal.SIGINT, signal.default_int_handler)  # which whoever runs tests in the background has switched off
sys.path.insert(0, sys.argv[1])
from tests.engine.rasters.formula import FormulaEngine, aerial_manifest
from uperfuse.engine.rasters import Scene, Source, predict_raster, readers

stuck = '''
import os, sys, time
sys.path[:] = {path!r}
from uperfuse.engine.rasters.reader import SceneReader
from uperfuse.engine.rasters.reader_process import main
def read(reader, place):
    os.write(2, b'%d\\\\n' % os.getpid())  # at once, for two readers write to one pipe
    time.sleep(600)
SceneReader.read = read
main()
'''.format(path=sys.path)
readers.python_command = lambda _: [sys.executable, "-c", stuck]
scene = Scene(inputs={"AERIAL_RGBI": Source(path=Path(sys.argv[2]))})
predict_raster(FormulaEngine(aerial_manifest()), scene, sys.argv[3], readers=2)
"""


@pytest.mark.parametrize("with_what", [signal.SIGKILL, signal.SIGINT])
def test_no_reader_holds_up_the_end_with_a_tile_that_does_not_come(ortho: Path, tmp_path: Path, with_what: int) -> None:
    root = Path(__file__).resolve().parents[3]
    command = [sys.executable, "-c", STUCK, str(root), str(ortho), str(tmp_path / "out")]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        pids = [int(process.stderr.readline()) for _ in range(2)]
        process.send_signal(with_what)
        try:
            assert process.wait(GONE_S) != 0
        finally:
            process.kill()
        said = process.stderr.read()  # ends when the readers have closed it, which is just before they have ended
    assert have_ended(pids)
    assert said.count("Traceback") == said.count("KeyboardInterrupt") == (with_what == signal.SIGINT)


def test_where_reading_sets_the_pace_readers_are_suggested(ortho: Path, tmp_path: Path) -> None:
    seconds = {"mapping": 10.0, "read": 9.0, "predict": 3.0, "publish": 1.0}
    summary = MapSummary({}, {}, {}, 1, 0, 0.0, (), (), seconds)
    assert summary.stages().endswith("read sets the pace: more --readers may keep up")
    summary = MapSummary({}, {}, {}, 1, 0, 0.0, (), (), {**seconds, "read": 2.0})
    assert summary.stages().endswith("predict sets the pace")


@calmly
@given(st.lists(st.tuples(st.sampled_from(["u1", "<u2", "<f4", "?", "<M8[D]"]), st.integers(0, 70_000))))
def test_values_arrive_as_they_were_sent(arrays: list[tuple[str, int]]) -> None:
    made = [np.arange(size).astype(np.int64).astype(dtype).reshape(-1, 1) for dtype, size in arrays]
    read_end, write_end = os.pipe()
    with FileIO(read_end, "r") as reading, FileIO(write_end, "w") as writing:
        sender = threading.Thread(target=send, args=(writing, {"arrays": made, "word": "tile"}))
        sender.start()
        got = receive(reading)
        sender.join()
    assert got["word"] == "tile"
    for before, after in zip(made, got["arrays"], strict=True):
        assert before.dtype == after.dtype
        np.testing.assert_array_equal(before, after)
        assert after.flags.writeable


def test_arrays_of_a_tile_are_not_pickled_but_sent_as_they_are() -> None:
    place = Tiling((512, 512), tile_px=512, halo_px=64)[0]
    pixels, void = np.zeros((4, 512, 512), np.uint8), np.zeros((512, 512), np.bool_)
    inputs = TileInputs(place, {"AERIAL_RGBI": pixels}, {"AERIAL_RGBI": void}, void, {})

    class Counter(FileIO):
        def write(self, part: Any) -> int:
            written.append(len(part))
            return len(part)

    written: list[int] = []
    with Counter(os.devnull, "w") as pipe:
        send(pipe, Answer(ReadTile(0, inputs), 1.0))
    assert pixels.nbytes in written
    assert written.count(void.nbytes) == 1  # named twice, sent once
    assert sum(written) < pixels.nbytes + void.nbytes + 2000


def test_an_end_in_the_middle_is_noticed() -> None:
    read_end, write_end = os.pipe()
    with FileIO(read_end, "r") as reading:
        with FileIO(write_end, "w") as writing:
            writing.write(b"\2\0\0\0\0\0\0\0\7")
        with pytest.raises(EOFError):
            receive(reading)
