"""What users get wrong is refused before anything is computed, in one sentence that says what to do."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from tests.trainer.evaluation.conftest import drawn, spec_of, without
from uperfuse.engine import CheckpointError, Plan
from uperfuse.engine.errors import BackendError, PlanError, UPerFuseError
from uperfuse.engine.flairhub import TASKS
from uperfuse.engine.plan.network import Geometry
from uperfuse.trainer.checkpoint import save_checkpoint
from uperfuse.trainer.data import DataSet, DataSetError, Split
from uperfuse.trainer.description import ExportConfig
from uperfuse.trainer.evaluation import evaluate
from uperfuse.trainer.evaluation.plan_mapper import tile_side
from uperfuse.trainer.network import TaskSpec

COVER, CROPS = TASKS


@pytest.fixture(scope="module")
def needy(tmp_path_factory) -> Path:
    """A checkpoint that cannot do without any of its sensors."""
    path = tmp_path_factory.mktemp("needy") / "needy.safetensors"
    save_checkpoint(drawn(spec_of()), path)
    return path


def other_split(patchwork, patches) -> DataSet:
    data_set = DataSet.open(patchwork.root)
    return replace(data_set, splits={"test": Split("test", data_set.split("test").file, tuple(patches))})


def test_a_model_that_is_none(patchwork, tmp_path):
    notes = tmp_path / "notes.txt"
    notes.write_text("mIoU was fine")
    with pytest.raises(CheckpointError, match=r"notes\.txt is neither a checkpoint .* nor a plan; give one that"):
        evaluate(notes, patchwork.root)
    with pytest.raises(CheckpointError, match=r"is a folder; give a \.safetensors file or a plan"):
        evaluate(tmp_path, patchwork.root)
    with pytest.raises(FileNotFoundError):
        evaluate(tmp_path / "missing.plan", patchwork.root)
    cut = tmp_path / "cut.plan"
    cut.write_bytes(b"PK\3\4 and no more")
    with pytest.raises(PlanError):
        evaluate(cut, patchwork.root)
    torn = tmp_path / "torn.safetensors"
    torn.write_bytes((1000).to_bytes(8, "little") + b"{")
    with pytest.raises(CheckpointError, match="cannot be read as safetensors"):
        evaluate(torn, patchwork.root)


def test_a_split_that_is_not_there_is_refused_before_the_model_is_read(patchwork, tmp_path):
    with pytest.raises(DataSetError, match="has no split valid, expected one of test; choose one"):
        evaluate(tmp_path / "unread", patchwork.root, split="valid")
    with pytest.raises(DataSetError, match="is no folder"):
        evaluate(tmp_path / "unread", tmp_path / "nowhere")


def test_patches_that_lack_what_the_network_needs(patchwork, needy):
    with pytest.raises(
        DataSetError,
        match=rf"1 of 8 patches .* lack SPOT_RGBI, {patchwork.blind.id} first, and needy cannot do without it; leave",
    ):
        evaluate(needy, patchwork.root)


def test_modalities_that_cannot_be_left_out(patchwork, checkpoint, plan, needy):
    for model in (checkpoint, plan):
        with pytest.raises(
            CheckpointError,
            match="tiny never learnt to do without AERIAL_RGBI; leave out some of DEM_ELEV, SPOT_RGBI, SENTINEL2_TS",
        ):
            evaluate(model, patchwork.root, absent=["AERIAL_RGBI"])
    with pytest.raises(CheckpointError, match=r"needy never learnt .* it needs all of its modalities"):
        evaluate(needy, patchwork.root, absent=["SPOT_RGBI"])
    with pytest.raises(CheckpointError, match="there is no modality SPOT, expected some of AERIAL_RGBI"):
        evaluate(checkpoint, patchwork.root, absent=["SPOT"])


def test_a_modality_that_is_not_taken_is_absent_already(patchwork, checkpoint):
    said: list[str] = []
    one = other_split(patchwork, [patchwork.snowed])
    found = evaluate(checkpoint, one, absent=["SENTINEL1-ASC_TS"], say=said.append)
    assert found.absent == ()
    assert "tiny does not take SENTINEL1-ASC_TS, so nothing of it is left out" in said


def test_labels_that_nobody_has(patchwork, checkpoint):
    bare = [without(without(patch, COVER), CROPS) for patch in patchwork.patches]
    with pytest.raises(DataSetError, match=rf"no patch .* has labels of {COVER} or {CROPS}, which tiny maps; choose"):
        evaluate(checkpoint, other_split(patchwork, bare))


def test_a_task_without_labels_has_no_scores_and_a_remark(patchwork, checkpoint):
    patches = [patchwork.unlabelled, without(without(patchwork.snowed, COVER), CROPS)]
    found = evaluate(checkpoint, other_split(patchwork, patches))
    assert [task.name for task in found.tasks] == [COVER]
    assert found.patches == 1
    assert found.remarks == (
        "1 patches of the split test have no labels and were left out",
        f"no patch of the split test has labels of {CROPS}, so it has no scores",
    )


def test_a_patch_that_sees_nothing(patchwork, tmp_path):
    spec = replace(spec_of("SPOT_RGBI", "SENTINEL2_TS"), images=spec_of().images[2:])
    path = tmp_path / "spot.safetensors"
    save_checkpoint(drawn(spec), path)
    lonely = without(patchwork.blind, "SENTINEL2_TS")
    with pytest.raises(DataSetError, match=f"{lonely.id} has nothing to see of SPOT_RGBI, SENTINEL2_TS; leave it out"):
        evaluate(path, other_split(patchwork, [lonely]))


def test_a_device_that_is_not_there(patchwork, checkpoint, plan):
    with pytest.raises(BackendError, match="PyTorch cannot run on 'abacus'"):
        evaluate(checkpoint, patchwork.root, device="abacus")
    with pytest.raises(BackendError):
        evaluate(plan, patchwork.root, device="abacus")


def test_a_plan_for_other_tiles(plan):
    with Plan.open(plan) as opened:
        manifest = opened.manifest
    assert tile_side(plan, manifest) == 512
    smaller = tuple(each.model_copy(update={"tile_px": each.tile_px // 2}) for each in manifest.modalities)
    half = manifest.model_copy(update={"modalities": smaller, "label_px": 256})
    with pytest.raises(PlanError, match=r"takes tiles of 256 px of AERIAL_RGBI, patches have 512 px; export it with"):
        tile_side(plan, half)
    own = Geometry(
        tiles_px={each.name: each.tile_px for each in manifest.modalities},
        label_px=manifest.label_px,
        logits_px=manifest.logits_px,
        upsampling=manifest.upsampling,
        segments=manifest.segments,
    )
    assert tile_side(plan, half.model_copy(update={"geometries": (own,)})) == 512


def test_classes_of_ones_own_need_words_and_are_scored_with_them(patchwork, tmp_path):
    """Two classes: built and not; the words stand in the checkpoint, or in a file."""
    spec = spec_of()
    spec = replace(
        spec,
        images=spec.images[:1],
        series=(),
        tasks=(TaskSpec("BUILT", 2),),
    )
    classes = [{"name": "open", "colour": "#00ff00"}, {"name": "built", "colour": "#ff0000"}]
    values = {value: int(value in (0, 1, 3)) for value in range(len(TASKS[COVER]))}
    untold, told = tmp_path / "untold.safetensors", tmp_path / "told.safetensors"
    words = {"tasks": {"BUILT": {"classes": classes}}}
    save_checkpoint(drawn(spec), untold, said=ExportConfig.model_validate(words))
    with pytest.raises(CheckpointError, match=r"BUILT is no label of FLAIR-HUB, .* --config: tasks: BUILT: product"):
        evaluate(untold, patchwork.root)
    words["tasks"]["BUILT"]["product"] = COVER
    file = tmp_path / "words.yaml"
    file.write_text(yaml.safe_dump(words))
    with pytest.raises(CheckpointError, match=rf"BUILT has 2 classes, rasters of {COVER} hold 19; .* BUILT: values"):
        evaluate(untold, patchwork.root, config=file)
    words["tasks"]["BUILT"]["values"] = values
    file.write_text(yaml.safe_dump(words))
    save_checkpoint(drawn(spec), told, said=ExportConfig.model_validate(words))
    found = evaluate(told, patchwork.root)
    for words in ({"config": file}, {"said": found.said}):
        again = evaluate(untold, patchwork.root, **words)
        assert (found.tasks[0].confusion == again.tasks[0].confusion).all()
    everything = 512 * 512 * len(patchwork.patches)
    assert 0.9 * everything < found.tasks[0].scores.pixels < everything


def test_a_plan_says_itself_what_its_modalities_are(patchwork, plan, tmp_path):
    file = tmp_path / "words.yaml"
    file.write_text(yaml.safe_dump({"modalities": {"AERIAL_RGBI": {"bands": ["R", "G", "B", "NIR"]}}}))
    with pytest.raises(CheckpointError, match="is a plan, which says itself what its modalities are; keep nothing but"):
        evaluate(plan, patchwork.root, config=file)


def test_a_file_that_is_gone(patchwork, checkpoint, tmp_path):
    root = tmp_path / "root"
    shutil.copytree(patchwork.root, root)
    (root / patchwork.torn.files["DEM_ELEV"]).unlink()
    with pytest.raises(UPerFuseError, match="DEM_ELEV"):
        evaluate(checkpoint, root)
