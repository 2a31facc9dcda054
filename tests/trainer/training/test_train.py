"""From a configuration to a plan: everything that a user goes through."""

from __future__ import annotations

import re
import shutil

import numpy as np
import pytest
import torch
import yaml

from tests.conftest import ROOT
from uperfuse.engine import Engine
from uperfuse.engine.errors import CheckpointError
from uperfuse.trainer.checkpoint import load_checkpoint, save_checkpoint
from uperfuse.trainer.data import FLAIRHUB_LABELS, DataSetError, choose, read_sample
from uperfuse.trainer.export import export_checkpoint
from uperfuse.trainer.network import BackboneSpec, ImageSpec, NetworkSpec, TaskSpec, UPerFuse
from uperfuse.trainer.training import Machines, TrainConfig, build, published_names, read_config, train
from uperfuse.trainer.training.census import class_counts, sampling_odds
from uperfuse.trainer.training.places import hold_out

COVER = "AERIAL_LABEL-COSIA"
CPU = Machines(accelerator="cpu")


@pytest.fixture(scope="module")
def trained(config_of, series_settings, tmp_path_factory):
    """A run of two rounds with sensors that may be absent."""
    modalities = {"SENTINEL2_TS": {"series": series_settings, "dropout": 0.4, "aux": 0.2}}
    config = config_of(modalities=modalities, data={"check": True}, second_looks=0.4)
    lines = []
    out = tmp_path_factory.mktemp("trained") / "run"
    outcome = train(config, out=out, machines=CPU, say=lines.append)
    return out, outcome, lines


def test_a_run_leaves_weights_tables_and_curves(trained):
    out, outcome, lines = trained
    names = {file.name for file in out.iterdir()}
    assert {"best.safetensors", "last.safetensors", "state.ckpt", "rounds.csv", "config.yaml"} <= names
    assert any(name.startswith("events.out.tfevents") for name in names)
    assert not any(name.endswith(".partial") for name in names)
    assert outcome.weights == out / "best.safetensors"
    assert [done.number for done in outcome.rounds] == [1, 2]
    assert any("patches to learn from" in line for line in lines)
    assert TrainConfig.read(out / "config.yaml").name == "tiny"


def test_second_looks_weigh_what_the_configuration_says(trained):
    _, outcome, _ = trained
    losses = outcome.rounds[0].losses
    tasks = [name.removeprefix("second__") for name in losses if name.startswith("second__")]
    assert tasks
    parts = (losses[t] + 0.4 * losses[f"second__{t}"] + 0.2 * losses[f"SENTINEL2_TS__{t}"] for t in tasks)
    assert losses["loss"] == pytest.approx(sum(parts), rel=1e-4)


def test_best_weights_become_a_plan_without_further_words(trained, data_set, tmp_path):
    _, outcome, _ = trained
    plan = tmp_path / "tiny.plan"
    export_checkpoint(outcome.weights, out=plan)
    loaded = load_checkpoint(outcome.weights)
    learnt = [float(level.detach().abs().sum()) for level in loaded.network.absent["DEM_ELEV"]]
    assert min(learnt) > 0, "a stand-in that was not learnt"
    with Engine.load(plan, precision="float32") as engine:
        absent = {m.name for m in engine.manifest.modalities if m.may_be_absent}
        assert absent == {"DEM_ELEV", "SENTINEL2_TS"}
        assert engine.manifest.name == "tiny"
        patch = data_set.split("test").patches[0]
        modalities = {m.name: m for m in engine.manifest.modalities if m.name == "AERIAL_RGBI"}
        sample = choose(read_sample(data_set.root, patch, dates=data_set.dates, modalities=["AERIAL_RGBI"]), modalities)
        pixels = sample.images["AERIAL_RGBI"].values
        found = engine.predict({"AERIAL_RGBI": pixels}).labels[COVER][0]
    mean, std = ([getattr(c, of) for c in modalities["AERIAL_RGBI"].channels] for of in ("mean", "std"))
    prepared = (torch.from_numpy(pixels).float() - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]
    with torch.no_grad():
        expected = loaded.network({"AERIAL_RGBI": prepared})[COVER].argmax(1)[0].numpy()
    assert np.mean(found == expected) > 0.9999


def test_the_readmes_fine_tuning_runs(data_set, tmp_path):
    """Its file word for word, with a smaller checkpoint of the published form and fewer steps."""
    blocks = re.findall(
        r"^```yaml\n(.*?)^```", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    )
    config = next(yaml.safe_load(text) for text in blocks if "GREEN-AND-GREY" in text)
    small = {"family": "convnextv2", "dims": (8, 8, 8, 8), "depths": (1, 1, 1, 1)}
    image = ImageSpec("AERIAL_RGBI", 3, 512, BackboneSpec(**small))
    spec = NetworkSpec((image,), (), (TaskSpec(COVER, 19),), pyramid_channels=8, segmentation_channels=8)
    torch.manual_seed(1)
    old = UPerFuse(spec)
    save_checkpoint(old, tmp_path / config["start"]["checkpoint"])
    config["data"] |= {"root": str(data_set.root), "check": False, "augmentation": {"quarters": True}}
    config["recipe"] = config["recipe"] | {"steps": 1, "batch": 2, "label_stride": 8}
    del config["recipe"]["epochs"]
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(config))
    lines = []
    outcome = train(read_config(tmp_path / "mine.yaml"), out=tmp_path / "run", machines=CPU, say=lines.append)
    assert any("last layer of GREEN-AND-GREY" in line for line in lines)
    loaded = load_checkpoint(outcome.weights)
    assert [entry.name for entry in loaded.said.tasks["GREEN-AND-GREY"].classes] == [
        "sealed",
        "water",
        "green",
        "unknown",
    ]
    assert loaded.said.modalities["AERIAL_RGBI"].bands == ("NIR", "R", "G")
    assert outcome.rounds[0].scores["GREEN-AND-GREY"].pixels > 0
    export_checkpoint(outcome.weights, out=tmp_path / "mine.plan")


def test_a_small_network_learns_from_a_large_one(trained, config_of, tmp_path):
    _, outcome, _ = trained
    config = config_of(recipe={"steps": 2}, teacher={"checkpoint": str(outcome.weights), "weight": 0.5}, second_looks=0)
    small = train(config, out=tmp_path / "small", machines=CPU, say=lambda _: None)
    assert small.rounds[0].losses["teacher"] > 0
    assert not any(name.startswith("second__") for name in small.rounds[0].losses)


def test_a_teacher_that_is_not_there_is_missed_before_anything_is_read_or_written(config_of, tmp_path):
    lines = []
    config = config_of(teacher={"checkpoint": str(tmp_path / "none.safetensors")}, data={"check": True})
    with pytest.raises(CheckpointError, match="No such file"):
        train(config, out=tmp_path / "run", machines=CPU, say=lines.append)
    assert not lines
    assert not (tmp_path / "run").exists()


def test_a_broken_data_set_is_refused_before_anything_is_written(data_set, config_of, tmp_path):
    root = tmp_path / "broken"
    shutil.copytree(data_set.root, root)
    patch = next(each for each in data_set.split("train").patches if "DEM_ELEV" in each.files)
    (root / patch.files["DEM_ELEV"]).unlink()
    config = config_of(data={"root": str(root), "check": True})
    with pytest.raises(DataSetError, match=r"broken is broken: .*DEM_ELEV.* is not there"):
        train(config, out=tmp_path / "run", machines=CPU, say=lambda _: None)
    assert not (tmp_path / "run").exists()


def test_places_that_choose_are_not_learnt_from(data_set):
    learnt, chosen = hold_out(data_set, 0.34, seed=1)
    assert learnt
    assert chosen
    assert not {patch.id.domain for patch in learnt} & {patch.id.domain for patch in chosen}
    assert {patch.id for patch in learnt} <= {patch.id for patch in data_set.split("train").patches}
    domains = data_set.split("train").domains
    by_name = hold_out(data_set, domains[:1], seed=1)[1]
    assert {patch.id.domain for patch in by_name} == {domains[0]}
    assert hold_out(data_set, 0, seed=1) == (data_set.split("train").patches, data_set.split("valid").patches)
    with pytest.raises(DataSetError, match="D999 cannot be held out, places of training are"):
        hold_out(data_set, ("D999",), seed=1)
    with pytest.raises(DataSetError, match="nothing is left to learn from"):
        hold_out(data_set, domains, seed=1)


def test_patches_with_rare_classes_are_drawn_more_often(data_set):
    patches = data_set.split("train").patches
    tasks = {COVER: FLAIRHUB_LABELS[COVER]}
    counts = class_counts(data_set.root, patches, tasks)
    label = read_sample(data_set.root, patches[0], dates=data_set.dates, modalities=(), tasks=tasks).labels[COVER]
    assert np.array_equal(counts[COVER][0], np.bincount(label.ravel(), minlength=256)[:19])
    ignored = {COVER: [False] * 15 + [True] * 4}
    assert sampling_odds(counts, ignored=ignored, powers={COVER: 0.0}) is None
    made = {COVER: np.array([[90, 10, 0] + [0] * 16, [100, 0, 0] + [0] * 16, [0] * 18 + [100]])}
    odds = sampling_odds(made, ignored=ignored, powers={COVER: 1.0})
    share = np.array([190, 10]) / 200
    rarity = 1 / share
    expected = np.array([(90 * rarity[0] + 10 * rarity[1]) / 100, rarity[0]])
    assert odds[:2] == pytest.approx(expected / expected.mean())
    assert odds[2] == odds[:2].min()


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"modalities": {"AERIAL": {}}}, "modalities .'AERIAL'. are unknown"),
        ({"network": {"encoder": "resnet50"}}, "encoder resnet50 is unknown"),
        ({"tasks": {"ROOFS": {}}}, "nothing says what the classes of ROOFS are"),
        ({"modalities": {"AERIAL_RGBI": {"bands": ["R", "G", "SWIR"]}}}, "files hold R, G, B, NIR"),
    ],
)
def test_configurations_that_make_no_network_are_refused(config_of, data_set, settings, sentence, tmp_path):
    config = config_of(**settings)
    if "network" in settings:
        config = config.model_copy(update={"network": config.network.model_copy(update=settings["network"])})
    with pytest.raises((CheckpointError, DataSetError), match=sentence):
        train(config, out=tmp_path / "run", machines=CPU, say=lambda _: None)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("name: [", "is not YAML"),
        ("name: x\nrecipe: {steps: 1}\n", "name modalities and tasks, or a checkpoint to start from"),
        ("name: x\nrecipe: {steps: 1, lr: 2}\n", "recipe.lr: Extra inputs are not permitted"),
        ("name: x\nmodalities: {AERIAL_RGBI: {}}\ntasks: {A: {}}\nrecipe: {}\n", "either epochs or steps"),
        (
            "name: x\nmodalities: {AERIAL_RGBI: {}}\nrecipe: {steps: 1}\n"
            "tasks: {A: {imbalance: {weights: 1, logit_adjustment: 1}}}\n",
            "choose one of them",
        ),
    ],
)
def test_files_that_say_no_training_are_refused(text, sentence, tmp_path):
    (tmp_path / "mine.yaml").write_text(text)
    with pytest.raises(CheckpointError, match=sentence):
        read_config(tmp_path / "mine.yaml")


def test_names_and_options_of_the_command_line(config_of, tmp_path):
    assert {"LC-A", "LC-ALL", "LPIS-K", "uperfuse-small"} <= {*published_names()}
    start, teacher = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    config = read_config("LC-F", data=tmp_path, start=start, teacher=teacher, workers=3)
    assert config.data.root == tmp_path
    assert config.start.checkpoint == start
    assert config.teacher.checkpoint == teacher
    assert config.recipe.workers == 3
    with pytest.raises(CheckpointError, match="LC-Z is neither a YAML file nor one of LC-A"):
        read_config("LC-Z")
    with pytest.raises(CheckpointError, match="cannot be read: No such file"):
        read_config(tmp_path / "none.yaml")
    with pytest.raises(CheckpointError, match="nothing says where the data set lies"):
        train(read_config("LC-A"), out=tmp_path / "run", machines=CPU)


def test_rounds_are_equal_and_as_many_as_asked():
    recipe = TrainConfig.model_validate(
        {"name": "x", "modalities": {"AERIAL_RGBI": {}}, "tasks": {COVER: {}}, "recipe": {"epochs": 3, "batch": 4}}
    ).recipe
    assert recipe.rounds(100) == (3, 25)
    assert recipe.model_copy(update={"round_steps": 10}).rounds(100) == (8, 10)
    assert recipe.model_copy(update={"epochs": None, "steps": 7}).rounds(2) == (7, 1)


def test_built_networks_describe_themselves(config_of):
    built = build(config_of())
    assert built.labels_per_base == 1.0
    spot = TrainConfig.model_validate(
        {"name": "x", "modalities": {"SPOT_RGBI": {}}, "tasks": {COVER: {}}, "recipe": {"steps": 1}}
    )
    assert build(spot).labels_per_base == 8.0
    assert build(spot).modalities["SPOT_RGBI"].bands == ("NIR", "R", "G")
