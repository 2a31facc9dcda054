"""Weights and plans are scored alike, on maps that the engine makes of the same files; every pixel counts."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from sklearn.metrics import confusion_matrix

from tests.trainer.evaluation.conftest import VOID_COLUMNS, VOID_ROWS
from uperfuse.engine import Engine
from uperfuse.engine.flairhub import TASKS, dates_key
from uperfuse.engine.rasters import Scene, Source
from uperfuse.engine.rasters.reader import SceneReader
from uperfuse.engine.rasters.tiling import Tiling
from uperfuse.engine.simulation import MASK
from uperfuse.trainer.data import DataSet, read_sample
from uperfuse.trainer.evaluation import evaluate
from uperfuse.trainer.evaluation.groups import GROUPINGS

COVER, CROPS = TASKS
MOST_UNEQUAL = 1e-4  # of all pixels, as an export allows


def moved(one, other) -> float:
    """Share of the pixels that are in different cells of two confusion matrices."""
    return np.abs(one - other).sum() / 2 / one.sum()


def test_a_checkpoint_and_its_plan_have_the_same_scores(of_weights, of_plan):
    assert (of_weights.kind, of_plan.kind) == ("checkpoint", "plan")
    assert [task.name for task in of_weights.tasks] == [task.name for task in of_plan.tasks] == [COVER, CROPS]
    for ours, theirs in zip(of_weights.tasks, of_plan.tasks, strict=True):
        assert (ours.confusion.sum(0) > 0).sum() > 3, "too few classes are mapped to tell anything"
        assert moved(ours.confusion, theirs.confusion) <= MOST_UNEQUAL
        assert_array_equal(ours.confusion.sum(1), theirs.confusion.sum(1))
        for grouping in GROUPINGS:
            found = [[(group.name, group.patches) for group in each.groups[grouping]] for each in (ours, theirs)]
            assert found[0] == found[1]
            for one, other in zip(ours.groups[grouping], theirs.groups[grouping], strict=True):
                assert one.scores.pixels == other.scores.pixels
                assert one.scores.accuracy == pytest.approx(other.scores.accuracy, abs=MOST_UNEQUAL)


def test_maps_are_those_of_the_engines_own_reader(plan, patchwork, of_plan):
    """From files to labels without anything of the trainer."""
    data_set = DataSet.open(patchwork.root)
    shown = {(task.name, each.patch): each for task in of_plan.tasks for each in (*task.best, *task.worst)}
    with Engine.load(plan, precision="float32") as engine:
        for patch in patchwork.patches:
            inputs = {}
            for modality in engine.manifest.modalities:
                if modality.name in patch.files:
                    series = modality.kind == "series"
                    inputs[modality.name] = Source(
                        path=patchwork.root / patch.files[modality.name],
                        dates=tuple(data_set.dates[modality.name].of(patch.id).tolist()) if series else None,
                        mask=patchwork.root / patch.files[MASK] if series else None,
                    )
            with SceneReader(engine.manifest, Scene(inputs=inputs)) as reader:
                (place,) = Tiling(reader.grid.shape_yx, tile_px=512, halo_px=0)
                read = reader.read(place)
            batched = {
                name: values if name.endswith(("_TS", "_DATES")) else values[None]
                for name, values in read.tiles.items()
            }
            for name in [name for name in batched if name.endswith("_TS")]:
                batched[name], batched[dates_key(name)] = [batched[name]], [batched[dates_key(name)]]
            voids = {name: [void] if name.endswith("_TS") else void[None] for name, void in read.voids.items()}
            labels = engine.predict(batched, voids=voids).labels
            for task in TASKS:
                if task in patch.folders:
                    assert_array_equal(shown[task, str(patch.id)].found, labels[task][0])
    assert len(shown) == 2 * len(patchwork.patches) - 1


def test_every_pixel_with_truth_counts_but_where_nothing_was_seen(of_weights, patchwork):
    """Against scikit-learn, on the kept maps."""
    data_set = DataSet.open(patchwork.root)
    for task in of_weights.tasks:
        evaluated = [value for value, entry in enumerate(TASKS[task.name]) if not entry.ignored]
        expected = np.zeros_like(task.confusion)
        shown = {each.patch: each.found for each in (*task.best, *task.worst)}
        for patch in patchwork.patches:
            if task.name not in patch.folders:
                assert patch == patchwork.unlabelled
                assert str(patch.id) not in shown
                continue
            truth = read_sample(data_set.root, patch, dates=data_set.dates, modalities=()).labels[task.name]
            found = shown[str(patch.id)]
            counted = np.isin(truth, evaluated)
            if patch == patchwork.torn:
                corner = np.zeros_like(counted)
                corner[:VOID_ROWS, -VOID_COLUMNS:] = True
                assert_array_equal(found == 255, corner)
                assert counted[corner].any()
                counted &= ~corner
            else:
                assert found.max() < 255
            expected += confusion_matrix(truth[counted], found[counted], labels=range(len(TASKS[task.name])))
        assert_array_equal(task.confusion, expected)


def test_groups_are_those_of_the_patches(of_weights, patchwork):
    cover = of_weights.task(COVER)
    domains = [patch.id.domain for patch in patchwork.patches]
    assert [(group.name, group.patches) for group in cover.groups["domain"]] == [
        (name, domains.count(name)) for name in sorted(set(domains))
    ]
    lacking = {
        patch.id: [name for name in of_weights.modalities if name not in patch.folders] for patch in patchwork.patches
    }
    words = ["all" if not names else f"without {', '.join(names)}" for names in lacking.values()]
    found = {group.name: group.patches for group in cover.groups["modalities"]}
    assert found == {name: words.count(name) for name in set(words)}
    assert found["without SPOT_RGBI"] >= 1
    dates = {group.name: group.patches for group in cover.groups["dates"]}
    assert of_weights.dates == "SENTINEL2_TS"
    assert dates["0"] >= 1
    assert sum(dates.values()) == sum("SENTINEL2_TS" in patch.folders for patch in patchwork.patches)
    for grouping in ("domain", "modalities"):
        assert sum(group.scores.pixels for group in cover.groups[grouping]) == cover.scores.pixels
        assert sum(group.patches for group in cover.groups[grouping]) == cover.patches == len(patchwork.patches)
    assert of_weights.task(CROPS).patches == len(patchwork.patches) - 1
    assert any(CROPS in remark for remark in of_weights.remarks)


def test_best_and_worst_are_the_ends_of_one_order(checkpoint, patchwork, of_weights):
    told = []
    few = evaluate(
        checkpoint, patchwork.root, examples=2, batch=3, progress=lambda done, total: told.append((done, total))
    )
    count = len(patchwork.patches)
    assert told == [(0, count), (3, count), (6, count), (8, count)]
    for task in few.tasks:
        everything = of_weights.task(task.name)
        order = [each.patch for each in everything.best]
        assert everything.worst == ()
        assert [each.scores.accuracy for each in everything.best] == sorted(
            (each.scores.accuracy for each in everything.best), reverse=True
        )
        assert [each.patch for each in task.best] == order[:2]
        assert [each.patch for each in task.worst] == order[:-3:-1]
        # batches of other sizes are padded differently
        assert moved(task.confusion, everything.confusion) <= MOST_UNEQUAL


def test_modalities_can_be_left_out_everywhere(checkpoint, plan, patchwork, of_weights):
    absent = ("DEM_ELEV", "SENTINEL2_TS")
    ours = evaluate(checkpoint, patchwork.root, absent=absent)
    theirs = evaluate(plan, patchwork.root, absent=absent, precision="float32")
    assert ours.absent == theirs.absent == absent
    assert ours.dates is None
    for one, other in zip(ours.tasks, theirs.tasks, strict=True):
        assert moved(one.confusion, other.confusion) <= MOST_UNEQUAL
        assert moved(one.confusion, of_weights.task(one.name).confusion) > MOST_UNEQUAL
        assert {group.name for group in one.groups["modalities"]} == {"all", "without SPOT_RGBI"}
        assert one.groups["dates"] == ()


def test_a_reader_in_another_process_gives_the_same(plan, patchwork, of_plan):
    again = evaluate(plan, patchwork.root, precision="float32", workers=1)
    for one, other in zip(again.tasks, of_plan.tasks, strict=True):
        assert_array_equal(one.confusion, other.confusion)


def test_operations_are_counted_alike(of_weights, of_plan):
    # a plan rounds each segment to 0.0001
    assert of_weights.cost.gflop == pytest.approx(of_plan.cost.gflop, abs=0.001)
    assert of_weights.cost.gflop > 0.1
    # graphs merge normalisations into convolutions
    assert of_weights.cost.parameters == pytest.approx(of_plan.cost.parameters, rel=0.1)
