"""The loop: alike for any number of processes, kills and restarts, and it learns."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import time

import pytest
import torch
import yaml
from safetensors.torch import load_file

from uperfuse.engine.errors import CheckpointError
from uperfuse.trainer.data import Augmentation, Draw, PatchDataset
from uperfuse.trainer.losses import TaskLoss
from uperfuse.trainer.network import UPerFuse
from uperfuse.trainer.training import LAST, STATE, Machines, Objective, Recipe, Validation, build, fit, train

COVER = "AERIAL_LABEL-COSIA"
CPU = Machines(accelerator="cpu")
COMMAND = [sys.executable, "-W", "ignore", "-m", "uperfuse.engine.cli", "train"]


def quietly(config, out, **settings):
    return train(config, out=out, machines=CPU, say=lambda _: None, **settings)


def written(config, path):
    path.write_text(yaml.safe_dump(config.model_dump(mode="json", exclude_unset=True)))
    return path


def losses(folder):
    with (folder / "rounds.csv").open() as file:
        return [float(row["train/loss"]) for row in csv.DictReader(file)]


def same_weights(first, second):
    one, other = load_file(first), load_file(second)
    assert one.keys() == other.keys()
    assert [name for name, value in one.items() if not torch.equal(value, other[name])] == []


@pytest.fixture
def one_thread():
    """As in the commands that tests start: the order of sums depends on it."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def started(*arguments):
    """The command as a user runs it, on one thread, with its output."""
    env = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    env = {name: value for name, value in env.items() if not name.startswith(("PYTEST", "LOCAL_RANK", "NODE_RANK"))}
    return subprocess.Popen(
        [*COMMAND, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=env
    )


def finished(*arguments):
    """The command's output once it is done."""
    with started(*arguments) as process:
        output, _ = process.communicate(timeout=400)
    assert process.returncode == 0, output
    return output


def test_a_run_that_is_killed_and_taken_up_again_gives_the_weights_of_one_that_was_not(
    config_of, series_settings, tmp_path, one_thread
):
    """It is killed while a process loads for it, and goes on without one, which changes nothing either."""
    series = {"SENTINEL2_TS": {"series": series_settings, "dropout": 0.5, "aux": 0.3}}
    config = config_of(modalities=series, recipe={"steps": 6})
    whole = tmp_path / "whole"
    quietly(config, whole)
    killed = tmp_path / "killed"
    file = written(config, tmp_path / "config.yaml")
    with started(file, "-o", killed, "--workers", 1, "--accelerator", "cpu") as process:
        deadline = time.monotonic() + 300
        while not (killed / STATE).exists():
            assert process.poll() is None, process.communicate()[0]
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    before = losses(killed)
    assert 1 <= len(before) < 3, "it was too fast to be killed"
    quietly(config, killed, resume=True)
    assert losses(killed) == losses(whole)
    same_weights(killed / LAST, whole / LAST)
    same_weights(killed / "best.safetensors", whole / "best.safetensors")


def test_two_processes_learn_what_one_learns(config_of, tmp_path):
    """Sensors left out at random, an encoder that two share, weights of classes, batch norms: nothing may show."""
    # AdamW makes a step of a gradient that is nothing but rounding: a low rate keeps that small
    recipe = {"steps": 4, "round_steps": 1, "learning_rate": 1e-5}
    shared = {"DEM_ELEV": {"encoder": "shared"}}
    config = config_of(modalities=shared, tasks={COVER: {"imbalance": {"weights": 0.5}}}, recipe=recipe)
    quietly(config, tmp_path / "one")
    file = written(config, tmp_path / "config.yaml")
    finished(file, "-o", tmp_path / "two", "--accelerator", "cpu", "--devices", 2)
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), rel=1e-5)
    one, two = (load_file(tmp_path / name / LAST) for name in ("one", "two"))
    for name in (name for name in one if name.endswith(("running_mean", "running_var"))):
        torch.testing.assert_close(two[name], one[name], rtol=1e-3, atol=1e-4)


def test_processes_whose_patches_lack_different_sensors_do_not_wait_for_each_other(
    config_of, series_settings, tmp_path
):
    modalities = {
        "AERIAL_RGBI": {"dropout": 0.6, "aux": 0.5},
        "DEM_ELEV": {"dropout": 0.6, "aux": 0.5},
        "SENTINEL2_TS": {"series": series_settings, "dropout": 0.6, "aux": 0.5},
    }
    tasks = {"ALL_LABEL-LPIS": {"weight": 0.5}}  # that some patches have no labels of
    config = config_of(modalities=modalities, tasks=tasks, recipe={"batch": 2, "steps": 6, "round_steps": 6})
    file = written(config, tmp_path / "config.yaml")
    finished(file, "-o", tmp_path / "run", "--accelerator", "cpu", "--devices", 2)
    assert len(losses(tmp_path / "run")) == 1


def objective_of(config, **settings):
    built = build(config)
    torch.manual_seed(0)
    ignored = {task.name: [entry.ignored for entry in task.classes] for task in built.tasks}
    losses = {name: TaskLoss(flags) for name, flags in ignored.items()}
    return built, Objective(UPerFuse(built.spec), losses, label_stride=4, **settings)


def patches_of(data_set, built, split="train"):
    return PatchDataset(
        data_set,
        data_set.split(split).patches,
        modalities=built.modalities,
        tasks=built.labels,
        augmentation=Augmentation(quarters=True, brightness=0, haze=0),
    )


class _One(PatchDataset):
    """The same quarter of the same patch, whatever is drawn."""

    def __getitem__(self, item):
        return super().__getitem__(Draw(0, 0) if isinstance(item, Draw) else item)


def test_it_learns_a_patch_by_heart(config_of, data_set):
    built, objective = objective_of(config_of())
    patches = patches_of(data_set, built)
    patches.__class__ = _One
    rounds = []
    recipe = Recipe(steps=60, round_steps=20, batch=2, learning_rate=1e-2, average=0.8)
    fit(objective, patches, recipe=recipe, told=rounds.append)
    assert [done.step for done in rounds] == [20, 40, 60]
    assert rounds[-1].losses["loss"] < 0.6 * rounds[0].losses["loss"]


def test_seeds_decide(config_of, data_set):
    found = []
    for seed in (1, 1, 2):
        built, objective = objective_of(config_of())
        network = fit(objective, patches_of(data_set, built), recipe=Recipe(steps=2, batch=2, seed=seed, average=0))
        found.append(network.state_dict())
    assert all(torch.equal(value, found[1][name]) for name, value in found[0].items())
    assert not all(torch.equal(value, found[2][name]) for name, value in found[0].items())


def test_a_batch_in_portions_is_the_mean_of_its_portions(config_of, data_set):
    rounds = []
    for portions in (1, 2):
        built, objective = objective_of(config_of())
        for module in objective.modules():
            if isinstance(module, torch.nn.BatchNorm2d):  # whose statistics are of each portion
                module.momentum = 0.0
                module.forward = torch.nn.Identity().forward
        recipe = Recipe(steps=2, batch=4, portions=portions, clip=0, learning_rate=1e-3)
        done = []
        fit(objective, patches_of(data_set, built), recipe=recipe, told=done.append)
        rounds.append(done[0].losses["loss"])
    assert rounds[0] == pytest.approx(rounds[1], rel=0.02)


def test_bf16_and_clipping_change_little(config_of, data_set):
    found = {}
    for name, settings in {"plain": {}, "bf16": {"precision": "bf16"}, "clipped": {"clip": 1e-6}}.items():
        built, objective = objective_of(config_of())
        recipe = Recipe(steps=2, batch=2, learning_rate=1e-3, **settings)
        done = []
        fit(objective, patches_of(data_set, built), recipe=recipe, told=done.append)
        found[name] = done[0].losses["loss"]
    assert found["bf16"] != found["plain"]
    assert found["bf16"] == pytest.approx(found["plain"], rel=0.02)
    assert found["clipped"] == pytest.approx(found["plain"], rel=0.05)


def test_the_average_is_what_is_kept(config_of, data_set):
    built, objective = objective_of(config_of())
    kept = fit(objective, patches_of(data_set, built), recipe=Recipe(steps=3, batch=2, average=0)).state_dict()
    assert all(torch.equal(value, kept[name]) for name, value in objective.network.state_dict().items())
    built, objective = objective_of(config_of())
    mean = fit(objective, patches_of(data_set, built), recipe=Recipe(steps=3, batch=2, average=0.9)).state_dict()
    differs = [name for name, value in objective.network.state_dict().items() if not torch.equal(value, mean[name])]
    assert any(".seg_model.decoder." in name for name in differs)
    assert not objective.network.state_dict()[differs[0]].isnan().any()


def test_training_ends_when_nothing_gets_better(config_of, data_set):
    built, objective = objective_of(config_of())
    valid = Validation(patches_of(data_set, built, "valid"), built.tasks)
    recipe = Recipe(steps=12, round_steps=1, batch=2, learning_rate=1e-9, patience=2, average=0)
    rounds = []
    fit(objective, patches_of(data_set, built), recipe=recipe, valid=valid, told=rounds.append)
    assert len(rounds) < 12
    assert [done.best for done in rounds[-2:]] == [False, False]
    assert set(rounds[0].scores) == {COVER}


def test_a_loss_that_is_no_number_stops_it(config_of, data_set):
    built, objective = objective_of(config_of())
    with torch.no_grad():
        next(objective.network.parameters()).fill_(float("nan"))
    with pytest.raises(CheckpointError, match="the loss is nan at step 1; lower the learning rate"):
        fit(objective, patches_of(data_set, built), recipe=Recipe(steps=2, batch=2))


def test_one_patch_at_once_is_refused(config_of, data_set):
    built, objective = objective_of(config_of())
    with pytest.raises(CheckpointError, match="one patch goes through the network at once"):
        fit(objective, patches_of(data_set, built), recipe=Recipe(steps=2, batch=2, portions=2))


def test_a_state_of_another_training_is_refused(config_of, tmp_path):
    config = config_of(recipe={"steps": 2})
    quietly(config, tmp_path / "run")
    with pytest.raises(CheckpointError, match="holds a run of another configuration: recipe differ"):
        quietly(config_of(recipe={"steps": 4}), tmp_path / "run", resume=True)
    with pytest.raises(CheckpointError, match="is not empty; choose another folder, or go on"):
        quietly(config, tmp_path / "run")
    with pytest.raises(CheckpointError, match="holds no run that has got through a round"):
        quietly(config, tmp_path / "none", resume=True)
    state = tmp_path / "run" / STATE
    state.write_bytes(state.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match=r"state.ckpt belongs to another training|cannot be read"):
        quietly(config, tmp_path / "run", resume=True)


def test_rounds_are_told_in_a_line(config_of, data_set):
    built, objective = objective_of(config_of())
    valid = Validation(patches_of(data_set, built, "valid"), built.tasks)
    lines = []
    recipe = Recipe(epochs=1, batch=4)
    fit(objective, patches_of(data_set, built), recipe=recipe, valid=valid, told=lambda done: lines.append(str(done)))
    assert len(lines) == 1
    assert lines[0].startswith("round 1 of 1, step 3: loss ")
    assert "mIoU AERIAL_LABEL-COSIA 0." in lines[0]
