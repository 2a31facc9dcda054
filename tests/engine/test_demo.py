"""`uperfuse demo`: what it prints and draws is what lies in its files."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from PIL import Image
from typer.testing import CliRunner

from tests.conftest import ROOT, PlanFactory
from uperfuse.engine import Plan, PlanError
from uperfuse.engine.cli import app
from uperfuse.engine.demo import Agreement, ClassAgreement, run_demo
from uperfuse.engine.demo.agreement import compare
from uperfuse.engine.demo.legend import LEGEND_WIDTH_PX, draw_legend
from uperfuse.engine.demo.panels import VOID_COLOUR, confidence_panel, labels_panel
from uperfuse.engine.demo.picture import Row, draw_picture
from uperfuse.engine.plan.network import ClassEntry, Task
from uperfuse.engine.simulation import simulate

PLAN = ROOT / "models" / "uperfuse-small.plan"
SHAPE_YX_PX, SEED = (384, 640), 5
TASKS = ("AERIAL_LABEL-COSIA", "ALL_LABEL-LPIS")
VOID = 255

COMMAND = """
import sys
from uperfuse.engine.cli import main
try:
    main()
finally:
    assert not {"torch", "matplotlib"} & set(sys.modules)
"""


def rgb(colour: str) -> tuple[int, int, int]:
    return tuple(int(colour[at : at + 2], 16) for at in (1, 3, 5))


def colours_of(image: Image.Image) -> dict[tuple[int, int, int], int]:
    """Colour -> how many pixels have exactly that."""
    pixels, counts = np.unique(np.asarray(image).reshape(-1, 3), axis=0, return_counts=True)
    return {tuple(map(int, pixel)): int(count) for pixel, count in zip(pixels, counts, strict=True)}


def opened(path: Path) -> Image.Image:
    with Image.open(path) as image:
        image.load()
        return image.copy()


def band(path: Path) -> NDArray[np.uint8]:
    with rasterio.open(path) as raster:
        return raster.read(1)


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder in which a demo ran; it held files of others and of an earlier demo before."""
    out = tmp_path_factory.mktemp("demo") / "out"
    (out / "maps").mkdir(parents=True)
    (out / "maps" / "mine.tif").write_text("mine")
    (out / "demo.png").write_text("of an earlier demo")
    return out


@pytest.fixture(scope="module")
def printed(out: Path) -> str:
    """What the command printed, run as a user does with its output in a file."""
    size = "{}x{}".format(*SHAPE_YX_PX)
    options = [PLAN, "--out", out, "--size", size, "--seed", SEED, "--threads", 1]
    command = [sys.executable, "-W", "error", "-c", COMMAND, "demo", *map(str, options)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    return result.stdout


def cells_of(line: str) -> list[str]:
    """Cells of a line of a table: they stand two blanks apart."""
    return re.split(r"\s{2,}", line.strip())


def table_of(printed: str, task: str) -> dict[str, list[str]]:
    """Class -> its cells, read from the table of a task; "all" -> the last line."""
    rows = {}
    for cells in map(cells_of, printed.split(f"({task})")[1].splitlines()):
        if cells[0].startswith("#"):
            rows[cells[1]] = [cells[0], *cells[2:]]
        elif cells[0] == "all":
            return {**rows, "all": cells}
    raise AssertionError("the table has no end")


def hectares(pixels: NDArray[np.bool_]):
    """Their area, about: a pixel of 0.04 m2 on the map plane is a little more or less on the ground; it is rounded."""
    area = float(pixels.sum()) * 0.04e-4
    return pytest.approx(area, abs=2e-3 * area + 6e-4)


@pytest.mark.parametrize("task", TASKS)
def test_the_table_is_what_lies_in_the_files(out: Path, printed: str, task: str) -> None:
    labels, truth = band(out / "maps" / f"AERIAL_RGBI_{task}.tif"), band(out / "scene" / f"{task}.tif")
    assert labels.shape == truth.shape == SHAPE_YX_PX
    with Plan.open(PLAN) as plan:
        classes = plan.manifest.task(task).classes
    rows = table_of(printed, task)
    total = rows.pop("all")
    assert set(rows) == {
        entry.name for value, entry in enumerate(classes) if ((labels == value) | (truth == value)).any()
    }
    for value, entry in enumerate(classes):
        if entry.name not in rows:
            continue
        colour, area, share, true_area, users, producers, iou = rows[entry.name]
        mapped, true = labels == value, truth == value
        both = (mapped & true).sum()
        assert colour == entry.colour
        assert float(area) == hectares(mapped)
        assert float(true_area) == hectares(true)
        assert share == f"{mapped.mean():.1%}"
        assert users == (f"{both / mapped.sum():.1%}" if mapped.any() else "-")
        assert producers == (f"{both / true.sum():.1%}" if true.any() else "-")
        assert iou == ("-" if entry.ignored else f"{both / (mapped | true).sum():.2f}")
    valid_ha = (labels != VOID).sum() * 0.04e-4
    assert float(total[1]) == pytest.approx(valid_ha, rel=2e-3)
    assert sum(float(row[1]) for row in rows.values()) == pytest.approx(valid_ha, rel=2e-3, abs=5e-4 * len(rows))
    assert total[5] == f"{(labels == truth).mean():.1%}"


def test_the_time_of_each_stage_is_told(printed: str) -> None:
    rows = map(cells_of, printed.split("Time")[1].splitlines())
    seconds = {cells[0]: float(cells[1]) for cells in rows if len(cells) == 3 and cells[0] != "stage"}
    stages = ["load plan", "simulate", "write scene", "map", "publish", "compare", "draw"]
    assert list(seconds) == [*stages, "all"]
    assert min(seconds.values()) >= 0
    # Reading goes on beside the rest.
    one_after_the_other = sum(seconds[stage] for stage in stages if stage != "read")
    assert 0.6 * one_after_the_other < seconds["all"]
    assert one_after_the_other < seconds["all"] + 0.1


def test_every_file_that_is_named_is_there_and_others_are_left_alone(out: Path, printed: str) -> None:
    named = [Path(found) for found in re.findall(rf"{re.escape(str(out))}\S+", printed)]
    assert len(named) == 1 + 3 * len(TASKS) + 1
    assert all(path.stat().st_size > 0 for path in named)
    assert {path.suffix for path in named} == {".tif", ".qml", ".png", ".yaml"}
    assert (out / "maps" / "mine.tif").read_text() == "mine"
    assert not [path for path in out.rglob("*") if path.name.startswith(".")]


def test_the_picture_shows_image_maps_and_the_plans_colours(out: Path, printed: str) -> None:
    picture = opened(out / "demo.png")
    assert picture.mode == "RGB"
    assert 1600 <= picture.width <= 2000
    assert 800 <= picture.height <= 1400
    legends = picture.crop((picture.width - LEGEND_WIDTH_PX - 36, 0, picture.width, picture.height))
    found = colours_of(legends)
    with Plan.open(PLAN) as plan:
        tasks = plan.manifest.tasks
    occurring = set()
    for task in tasks:
        labels = band(out / "maps" / f"AERIAL_RGBI_{task.name}.tif")
        # The smallest may be gathered in one line.
        counts = np.bincount(labels.ravel(), minlength=256)
        occurring |= {rgb(task.classes[value].colour) for value in np.argsort(-counts)[:8] if counts[value]}
    # A swatch is 33 px wide within its rim, and at least 16 px high.
    assert all(found.get(colour, 0) >= 33 * 16 for colour in occurring)
    absent = {rgb(entry.colour) for task in tasks for entry in task.classes if not _occurs(out, task, entry)}
    assert all(found.get(colour, 0) < 20 for colour in absent - occurring - {(0, 0, 0), (255, 255, 255)})
    pixels = np.asarray(picture.crop((36, 100, 450, 350)), float)
    assert pixels.std(axis=(0, 1)).min() > 10  # the aerial image


def _occurs(out: Path, task: Task, entry: ClassEntry) -> bool:
    return bool((band(out / "maps" / f"AERIAL_RGBI_{task.name}.tif") == task.classes.index(entry)).any())


def test_a_plan_of_another_grid_and_fewer_sensors_is_compared_on_the_pixels_of_the_truth(
    tmp_path: Path, plans: PlanFactory
) -> None:
    path, _ = plans("series")
    result = run_demo(path, out=tmp_path, seed=3, shape_yx_px=(256, 512), threads=1, progress=False)
    (task,) = result.tasks
    name = task.task.name
    assert task.agreement.mapped_ha == pytest.approx(sum(result.summary.areas_ha[name].values()))
    coarse = band(task.files.labels)
    assert coarse.shape == (5, 10)
    # Each pixel of 10.24 m stands for the aerial pixels whose middle it holds.
    rows, columns = (((np.arange(size) + 0.5) * 0.2 / 10.24).astype(int) for size in (256, 512))
    fine, truth = coarse[rows[:, None], columns[None]], band(tmp_path / "scene" / f"{name}.tif")
    assert task.agreement.accuracy == pytest.approx((fine == truth).mean())
    assert opened(result.picture).width >= 1000


TASK = Task(
    name="T",
    classes=tuple(
        ClassEntry(name=name, colour=colour, ignored=name == "mixed")
        for name, colour in (("grass", "#55ff00"), ("water", "#1553ae"), ("snow", "#fafafa"), ("mixed", "#6b714f"))
    ),
)


def test_agreement_by_hand() -> None:
    truth = np.array([[0, 0, 0, 1], [1, 1, 255, 0]], np.uint8)
    labels = np.array([[0, 0, 1, 1], [3, 255, 0, 255]], np.uint8)
    found = compare(labels, task=TASK, pixel_m2=5000.0, truth=truth)
    grass, water, mixed = found.classes
    assert grass == ClassAgreement("grass", "#55ff00", 1.5, 0.5, 1.5, 1.0, pytest.approx(2 / 3), pytest.approx(2 / 3))
    assert water == ClassAgreement("water", "#1553ae", 1.0, pytest.approx(1 / 3), 1.0, 0.5, 0.5, pytest.approx(1 / 3))
    assert mixed == ClassAgreement("mixed", "#6b714f", 0.5, pytest.approx(1 / 6), 0.0, 0.0, None, None)
    assert found.accuracy == pytest.approx(3 / 5)
    assert found.mean_iou == pytest.approx(1 / 2)
    assert found.mapped_ha == 3.0
    assert found.void_share == 0.25


def test_without_truth_there_are_areas_alone() -> None:
    found = compare(np.array([[2, 2, 255]], np.uint8), task=TASK, pixel_m2=1e4)
    assert found.classes == (ClassAgreement("snow", "#fafafa", 2.0, 1.0, None, None, None, None),)
    assert found.accuracy is found.mean_iou is None


_values = st.sampled_from([0, 1, 2, 3, VOID])


@given(arrays(np.uint8, (2, 7, 5), elements=_values))
def test_areas_add_up_and_a_map_agrees_with_itself(maps: NDArray[np.uint8]) -> None:
    labels, truth = maps
    found = compare(labels, task=TASK, pixel_m2=1e4, truth=truth)
    assert sum(entry.mapped_ha for entry in found.classes) == (labels != VOID).sum() == found.mapped_ha
    known = (labels != VOID) & (truth != VOID)
    assert sum(entry.true_ha or 0 for entry in found.classes) == known.sum()
    itself = compare(labels, task=TASK, pixel_m2=1e4, truth=labels)
    assert all(entry.users == entry.producers == 1.0 for entry in itself.classes)
    assert all(entry.iou == 1.0 for entry in itself.classes if entry.name != "mixed")


def test_the_legend_has_the_mapped_classes_and_void_only() -> None:
    labels = np.array([[0] * 6 + [3] * 3, [255] * 9], np.uint8)
    truth = np.full((2, 9), 1, np.uint8)
    found = colours_of(draw_legend(compare(labels, task=TASK, pixel_m2=1e4, truth=truth), height_px=300))
    for colour in (rgb("#55ff00"), rgb("#6b714f"), VOID_COLOUR):
        assert found[colour] > 500
    assert rgb("#1553ae") not in found


def test_what_does_not_fit_into_a_legend_is_gathered() -> None:
    one = ClassAgreement("field", "#102030", 1.0, 0.025, 1.0, 1.0, 1.0, 1.0)
    many = tuple(replace(one, colour=f"#{16 + number:02x}80ff", mapped_ha=40.0 - number) for number in range(40))
    legend = draw_legend(Agreement(many, mapped_ha=820.0, void_share=0.0, accuracy=0.5), height_px=400)
    swatches = {colour for colour, count in colours_of(legend).items() if colour[1:] == (0x80, 0xFF) and count > 300}
    assert legend.height == 400
    assert 8 <= len(swatches) < 15
    assert swatches == {(16 + number, 0x80, 0xFF) for number in range(len(swatches))}


def test_void_is_void_in_every_panel_and_maps_are_upright() -> None:
    labels = np.zeros((30, 40), np.uint8)
    labels[:10, :10], labels[20:, 30:] = VOID, 1
    panel = np.asarray(labels_panel(labels, task=TASK, size_wh_px=(80, 60)))
    assert tuple(panel[0, 0]) == VOID_COLOUR
    assert tuple(panel[-1, -1]) == rgb("#1553ae")
    assert tuple(panel[0, -1]) == tuple(panel[-1, 0]) == rgb("#55ff00")
    confidence = np.tile(np.linspace(0, 100, 40).astype(np.uint8), (30, 1))
    confidence[:10, :10] = VOID
    panel = np.asarray(confidence_panel(confidence, size_wh_px=(40, 30)))
    assert tuple(panel[0, 0]) == VOID_COLOUR
    assert (np.diff(panel[-1].astype(int).sum(axis=-1)) >= 0).all()


@pytest.mark.parametrize("shape_yx_px", [(128, 700), (700, 128), (300, 410)])
def test_a_scene_of_any_shape_with_void_pixels_is_drawn(shape_yx_px: tuple[int, int]) -> None:
    place = simulate(4, shape_yx_px=shape_yx_px, void_corner=True)
    assert place.void.any()
    labels = np.where(place.void, VOID, 1).astype(np.uint8)
    agreement = compare(labels, task=TASK, pixel_m2=0.04)
    row = Row(TASK, "Land cover", labels, np.where(place.void, VOID, 90).astype(np.uint8), agreement)
    picture = draw_picture(place, [row, row], line="of nothing", origin="nobody")
    found = colours_of(picture)
    assert found[VOID_COLOUR] > 2 * 500
    assert found[rgb("#1553ae")] > 2 * 500


@pytest.mark.parametrize("size", ["big", "512", "64x512", "512x5000", "512x-512", "512x512x512"])
def test_a_size_that_cannot_be_is_refused(tmp_path: Path, size: str) -> None:
    result = CliRunner().invoke(app, ["demo", str(PLAN), "--out", str(tmp_path), "--size", size])
    assert result.exit_code == 2
    assert not list(tmp_path.iterdir())


def test_a_plan_that_is_not_there_is_refused_before_anything_is_simulated(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(PlanError, match=r"no\.plan"):
        run_demo(tmp_path / "no.plan", out=out, seed=1, shape_yx_px=(256, 256))
    assert not out.exists()
