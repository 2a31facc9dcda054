"""The study of fusion in its smallest form, and what its page says of results that are known."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from benchmarks.fusion_study.__main__ import main
from benchmarks.fusion_study.kinds import ALL, COVER, CROPS, KINDS, Land, Settings, config_of
from benchmarks.fusion_study.page import publish
from benchmarks.fusion_study.running import Result, Score, file_of, weights_file
from benchmarks.fusion_study.scoring import learned, score, subsets_of
from benchmarks.fusion_study.study import Gap, Study
from benchmarks.fusion_study.world import Draft, World, simulated
from tests.conftest import ROOT
from tests.processes import children, have_ended
from uperfuse.trainer.data import collate
from uperfuse.trainer.network import UPerFuse
from uperfuse.trainer.training import build

PATCHES = 5


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("study")


@pytest.fixture(scope="module")
def world(folder: Path) -> World:
    return World.read(simulated(folder, Land(patches=PATCHES), workers=1))


def test_the_smallest_study_goes_on_and_its_tables_come_from_the_json(
    folder: Path, world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["--patches", str(PATCHES), "--first-steps", "1", "--steps", "1", "--seeds", "1"]
    asked += ["--workers", "1", "--out", str(folder)]
    written = ["--pages", str(folder / "pages"), "--json", str(folder / "results.json")]
    main([*asked, *written, "--only", "series"])
    main([*asked, *written, "--only", "series,no-series"])
    said = capsys.readouterr().out
    assert "1 of 1 runs to do, 3 encoders to train before" in said
    assert "1 of 2 runs to do, 4 encoders to train before" in said
    runs = folder / f"runs-{PATCHES}-{Land().seed}-1-1-200"
    assert file_of(runs, "series", 1).exists()
    study = Study.read(folder / "results.json")
    assert {(each.kind, each.seed, each.steps) for each in study.results} == {("series", 1, 1), ("no-series", 1, 1)}
    assert (study.learnt, study.tested) == (len(world.learnt), len(world.tested))
    text = (folder / "pages" / "fusion.md").read_text(encoding="utf-8")
    for each in study.results:
        row = next(line for line in text.splitlines() if line.startswith(f"| {KINDS[each.kind].words} |"))
        assert f"| {100 * each.scores[COVER].mean_iou:.1f} |" in row
        assert f"| {100 * each.scores[CROPS].mean_iou:.1f} |" in row
    assert (folder / "pages" / "fusion-sensors.png").stat().st_size > 0


def test_more_steps_begin_with_the_network_of_all_and_are_scored_without_sensors(
    folder: Path, world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["--patches", str(PATCHES), "--first-steps", "1", "--steps", "1", "--more-steps", "1", "--seeds", "1"]
    asked += ["--workers", "1", "--out", str(folder), "--only", "dropout"]
    main([*asked, "--pages", str(folder / "more"), "--json", str(folder / "more.json")])
    assert "2 of 2 runs to do, 7 encoders to train before" in capsys.readouterr().out
    runs = folder / f"runs-{PATCHES}-{Land().seed}-1-1-1"
    begun = load_file(weights_file(runs, "all", 1))
    assert (
        begun.keys()
        == UPerFuse(build(config_of(KINDS["all"], Settings(), seed=1, statistics={})).spec).state_dict().keys()
    )
    done = {result.kind: result for result in Study.read(folder / "more.json").results}
    assert done.keys() == {"all", "dropout"}
    assert done["all"].absent == {}
    assert {*done["dropout"].absent["stand-in"]} == {"+".join(subset) for subset in subsets_of(ALL)}


def test_a_study_that_is_killed_leaves_nothing_running(folder: Path, world: World) -> None:
    assert world.learnt
    asked = ["--patches", str(PATCHES), "--first-steps", "100000", "--seeds", "1", "--workers", "1"]
    asked += ["--out", str(folder), "--only", "alone-SPOT_RGBI"]
    command = [sys.executable, "-m", "benchmarks.fusion_study", *asked]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as study:
        assert study.stdout is not None
        assert "1 encoders to train before" in study.stdout.readline()
        until = time.monotonic() + 60
        while len(begun := children(study.pid)) < 2 and time.monotonic() < until:  # one that trains, one that tidies up
            time.sleep(0.05)
        time.sleep(5)  # long enough to begin, and far from done
        study.kill()
    assert len(begun) == 2
    assert have_ended(begun)


def test_subsets_are_scored_as_the_network_maps_them(world: World) -> None:
    torch.manual_seed(3)
    built = build(config_of(KINDS["dropout"], Settings(), seed=0, statistics=world.statistics))
    network = UPerFuse(built.spec).eval()
    for level in network.absent.parameters():
        level.data.normal_()
    tests = Draft(world.tested, built.modalities)
    assert len(tests)
    present = ("DEM_ELEV", "SENTINEL2_TS")
    ways = {"": learned(network)}
    some = score(network, tests, built.tasks, ways=ways, subsets=[present, ALL])[""]
    every = score(network, tests, built.tasks, ways=ways, subsets=[ALL])[""]
    batch = collate([tests[number] for number in range(len(tests))])
    # every fourth pixel; of several subsets every 16th, where the enlarged map takes the decoder's own values
    dense = torch.arange(128)
    sparse = torch.linspace(0, 127, 32)
    for chosen, found, places in ((present, some, sparse), (ALL, some, sparse), (ALL, every, dense)):
        given = {name: batch.inputs[name] for name in chosen}
        with torch.no_grad():
            logits = network(given, batch.days, batch.masks, output_px=(128, 128), base_px=(128, 128))
        pixels = (places * 4 + 1.5).round().long()
        nearest = places.round().long()
        for task in built.tasks:
            truth = batch.labels[task.name][:, pixels][:, :, pixels].long()
            ours = logits[task.name].argmax(1)[:, nearest][:, :, nearest]
            ignored = torch.tensor([entry.ignored for entry in task.classes] + [True] * (256 - len(task.classes)))
            valid = ~ignored[truth]
            accuracy = float((ours == truth)[valid].float().mean())
            # cells lie up to half a pixel of the map from the nearest one
            assert found[chosen][task.name].accuracy == pytest.approx(accuracy, abs=1e-6 if places is dense else 0.03)
            assert found[chosen][task.name].pixels == int(valid.sum())


def test_a_sensor_that_a_patch_lacks_is_zeros_where_nothing_was_learnt(world: World) -> None:
    plain = build(config_of(KINDS["all"], Settings(), seed=0, statistics={})).modalities
    taught = build(config_of(KINDS["dropout"], Settings(), seed=0, statistics={})).modalities
    sample = world.tested[0].of(["AERIAL_RGBI"])
    filled = Draft([sample], plain)[0]
    assert not filled.images["SPOT_RGBI"].any()
    assert filled.images["SPOT_RGBI"].shape == (3, 64, 64)
    assert filled.series["SENTINEL2_TS"].pixels.shape == (0, 10, 10, 10)
    assert filled.images["AERIAL_RGBI"].any()
    assert Draft([sample], taught)[0].images.keys() == {"AERIAL_RGBI"}


def test_images_are_means_of_the_sensors_pixels(world: World) -> None:
    for sample in world.learnt:
        assert sample.images["AERIAL_RGBI"].values.shape == (1, 4, 128, 128)
        assert sample.images["AERIAL_RGBI"].values.dtype == np.uint8
        if "AERIAL-RLT_PAN" in sample.images:
            assert sample.images["AERIAL-RLT_PAN"].values.shape == (1, 1, 128, 128)
        if "SPOT_RGBI" in sample.images:
            assert sample.images["SPOT_RGBI"].values.shape == (1, 4, 64, 64)


def _result(kind: str, seed: int, iou: float, *, absent: dict[str, float] | None = None) -> Result:
    scores = {
        task: Score(mean_iou=iou, accuracy=iou, classes={"water": iou, "snow": iou / 2}) for task in (COVER, CROPS)
    }
    return Result(
        kind=kind,
        seed=seed,
        steps=1,
        parameters=1000,
        loss=1.0,
        processor_seconds=1.0,
        machine="none",
        date="2026-01-01",
        scores=scores,
        absent={
            way: {
                "+".join(subset): {task: Score(mean_iou=value, accuracy=value) for task in (COVER, CROPS)}
                for subset in subsets_of(ALL)
            }
            for way, value in (absent or {}).items()
        },
    )


def _study(results: list[Result]) -> Study:
    return Study(
        command="made up",
        land=Land(),
        settings=Settings(),
        shares={COVER: {"water": 0.5, "snow": 0.001}, CROPS: {"water": 0.5, "snow": 0.001}},
        learnt=1,
        tested=1,
        test_patches=1,
        domains=(1, 1),
        results=tuple(results),
    )


def test_sentences_follow_the_numbers(tmp_path: Path) -> None:
    results = []
    for seed, shift in ((1, 0.0), (2, 0.01), (3, -0.01)):
        results += [_result(f"alone-{name}", seed, 0.3 + shift) for name in ALL]
        results += [_result("all", seed, 0.5 + shift)]
        results += [_result("longer", seed, 0.5 + shift, absent={"zeros": 0.2, "mean": 0.3 + shift})]
        results += [_result("dropout", seed, 0.49 - shift, absent={"stand-in": 0.4 + shift})]
        results += [_result("no-history", seed, 0.5 + 2 * shift), _result("no-series", seed, 0.6 + shift)]
        results += [_result("lovasz", seed, 0.52 + shift), _result("weights", seed, 0.5 - shift)]
    study = _study(results)
    publish(study, tmp_path)
    text = (tmp_path / "fusion.md").read_text(encoding="utf-8")
    assert "In land cover, fusion of all seven beats the best single sensor (aerial): +20.0 ± 0.0 points." in text
    assert (
        "with one sensor absent (mean over the seven), the network that learnt with modality dropout is better" in text
    )
    assert "than the one that did not, with zeros in their place: +20.0 ± 1.0 points" in text
    assert "with any sensors absent (mean over 126 subsets)" in text
    assert "it is better in 126 in crops" in text
    assert "In crops, the three series do harm when added to the four images" in text
    assert "with a Lovász term the mean IoU of rare classes rises: +1.0 ± 0.0 points" in text
    assert "with class weights the mean IoU of rare classes does not rise beyond the spread" in text
    assert "the historical image beside the six others changes nothing beyond the spread" in text
    for name in ("fusion-sensors.png", "fusion-absent.png", "fusion-rare.png"):
        assert 0 < (tmp_path / name).stat().st_size < 150_000


def test_a_gap_is_plain_beyond_twice_its_deviation() -> None:
    values = [0.02, 0.03, 0.07]
    assert statistics.stdev(values) > statistics.fmean(values) / 2
    assert not Gap.between(values, [0.0, 0.0, 0.0]).plain
    assert Gap.between([0.02, 0.03, 0.04], [0.0, 0.0, 0.0]).plain
    assert not Gap.between([0.5], [0.0]).plain


def test_every_subset_is_there_once() -> None:
    found = subsets_of(ALL)
    assert len(set(found)) == len(found) == 2 ** len(ALL) - 1
    assert all(chosen in found for chosen in combinations(ALL, 3))


def test_an_unknown_kind_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--only", "alone-LIDAR", "--out", str(tmp_path)])
    assert "alone-LIDAR is no kind of run" in capsys.readouterr().err
