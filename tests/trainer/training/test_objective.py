"""What a batch costs: tasks, sensors' own decoders, and a teacher."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from uperfuse.engine.errors import CheckpointError
from uperfuse.trainer.data import Draw, PatchDataset, collate
from uperfuse.trainer.losses import TaskLoss
from uperfuse.trainer.network import UPerFuse
from uperfuse.trainer.training import Objective, Teacher, build

COVER, CROPS = "AERIAL_LABEL-COSIA", "ALL_LABEL-LPIS"


@pytest.fixture(scope="module")
def built(config_of, series_settings):
    modalities = {
        "AERIAL_RGBI": {"aux": 0.5, "dropout": 0.1},
        "SENTINEL2_TS": {"series": series_settings, "aux": 0.5, "dropout": 0.2},
    }
    return build(config_of(modalities=modalities, tasks={CROPS: {"weight": 0.5}}))


@pytest.fixture(scope="module")
def batch(built, data_set, config_of):
    patches = PatchDataset(
        data_set,
        data_set.split("train").patches,
        modalities=built.modalities,
        tasks=built.labels,
        augmentation=config_of().data.augmentation,
    )
    return collate([patches[Draw(index, index)] for index in range(3)])


def objective_of(built, **settings):
    torch.manual_seed(0)
    losses = {task.name: TaskLoss([entry.ignored for entry in task.classes]) for task in built.tasks}
    return Objective(UPerFuse(built.spec), losses, label_stride=8, **settings)


def gradient(objective, batch, prefix):
    """Norm of the gradient of the weights below a name."""
    objective.zero_grad()
    total, _ = objective(batch)
    total.backward()
    found = [w.grad for name, w in objective.network.named_parameters() if name.startswith(prefix)]
    return sum(float(each.square().sum()) for each in found if each is not None) ** 0.5


def test_the_sum_is_of_weighted_parts(built, batch):
    weights, aux = {COVER: 1.0, CROPS: 0.5}, {"AERIAL_RGBI": 0.5, "SENTINEL2_TS": 0.25}
    total, parts = objective_of(built, weights=weights, aux=aux)(batch)
    expected = sum(
        weights[task] * (parts[task] + sum(share * parts[f"{name}__{task}"] for name, share in aux.items()))
        for task in weights
    )
    assert total.item() == pytest.approx(expected.item(), rel=1e-5)
    assert total.requires_grad


def test_auxiliary_losses_reach_their_decoders_and_encoders(built, batch):
    with_aux, without = objective_of(built, aux={"AERIAL_RGBI": 0.5}), objective_of(built)
    assert gradient(with_aux, batch, "aux_decoders.AERIAL_RGBI") > 0
    assert gradient(without, batch, "aux_decoders.AERIAL_RGBI") == 0
    assert gradient(with_aux, batch, "encoders.AERIAL_RGBI") != gradient(without, batch, "encoders.AERIAL_RGBI")
    assert gradient(with_aux, batch, "aux_decoders.SENTINEL2_TS") == 0


def test_a_decoder_of_a_sensor_learns_nothing_where_the_sensor_is_absent(built, batch):
    objective = objective_of(built, aux={"AERIAL_RGBI": 0.5})
    nowhere = replace(batch, present=batch.present | {"AERIAL_RGBI": torch.zeros(3, dtype=torch.bool)})
    assert gradient(objective, nowhere, "aux_decoders.AERIAL_RGBI") == 0
    assert gradient(objective, nowhere, "encoders.AERIAL_RGBI") == 0
    assert gradient(objective, nowhere, "absent.AERIAL_RGBI") > 0
    gone = replace(batch, inputs={name: x for name, x in batch.inputs.items() if name != "AERIAL_RGBI"}, present={})
    _, parts = objective(gone)
    assert parts["AERIAL_RGBI__AERIAL_LABEL-COSIA"] == 0
    assert gradient(objective, gone, "absent.AERIAL_RGBI") > 0


def test_a_second_look_is_learnt_from_like_a_first_one(built, batch):
    objective = objective_of(built, aux={"AERIAL_RGBI": 0.5})
    objective.network.eval()  # so that looks at the same tiles are equal
    _, once = objective(batch)
    _, twice = objective(replace(batch, shown={}))
    seconds = {f"second__{task}": task for task in (COVER, CROPS)}
    assert twice.keys() == once.keys() | seconds.keys()
    assert all(twice[name].item() == pytest.approx(once[seconds.get(name, name)].item(), rel=1e-5) for name in twice)
    assert gradient(objective, replace(batch, shown={}), "absent.") == 0
    blind = replace(batch, shown={"AERIAL_RGBI": torch.tensor([False, True, False])})
    total, parts = objective(blind)
    assert all(parts[name].item() == pytest.approx(once[name].item(), rel=1e-5) for name in once)
    assert all(parts[name].item() != pytest.approx(parts[task].item(), rel=1e-5) for name, task in seconds.items())
    seen = parts[COVER] + parts[CROPS] + 0.5 * (parts[f"AERIAL_RGBI__{COVER}"] + parts[f"AERIAL_RGBI__{CROPS}"])
    assert total.item() == pytest.approx((seen + 0.25 * sum(parts[name] for name in seconds)).item(), rel=1e-5)
    assert gradient(objective, blind, "absent.AERIAL_RGBI") > 0
    assert gradient(objective, blind, "encoders.AERIAL_RGBI") > 0
    unheard = objective_of(built, second_looks=0)
    unheard.network.eval()
    assert gradient(unheard, blind, "absent.AERIAL_RGBI") == 0


def test_a_task_without_labels_teaches_nothing_and_stops_nothing(built, batch):
    objective = objective_of(built)
    lacking = replace(batch, labels={COVER: batch.labels[COVER]})
    total, parts = objective(lacking)
    assert parts[CROPS] == 0
    assert total.item() == pytest.approx(parts[COVER].item())
    assert gradient(objective, lacking, f"main_decoders.{CROPS}") == 0
    assert gradient(objective, lacking, f"main_decoders.{COVER}") > 0


def test_a_teacher_is_followed(built, batch):
    student = objective_of(built, teacher=Teacher(objective_of(built).network.eval(), weight=2.0))
    taught = replace(batch, teacher=replace(batch))
    student.network.eval()  # the same network gives the same maps
    total, parts = student(taught)
    assert parts["teacher"] == pytest.approx(0, abs=1e-6)
    with torch.no_grad():
        for weight in student.network.main_decoders.parameters():
            weight.mul_(1.2)
    total, parts = student(taught)
    assert parts["teacher"] > 1e-4
    _, blind = student(replace(taught, shown={"SENTINEL2_TS": torch.zeros(3, dtype=torch.bool)}))
    assert blind["teacher"].item() == pytest.approx(parts["teacher"].item(), rel=1e-5)  # first looks follow
    assert total.item() == pytest.approx((parts[COVER] + parts[CROPS] + 2 * parts["teacher"]).item(), rel=1e-5)
    assert not any(name.startswith("teacher") for name, _ in student.named_parameters())


def test_what_does_not_fit_the_network_is_refused(built, config_of):
    losses = {task.name: TaskLoss([entry.ignored for entry in task.classes]) for task in built.tasks}
    network = UPerFuse(built.spec)
    with pytest.raises(CheckpointError, match=f"no loss for {CROPS}"):
        Objective(network, {COVER: losses[COVER]})
    with pytest.raises(CheckpointError, match="aux name DEM_ELEV"):
        Objective(network, losses, aux={"DEM_ELEV": 1.0})
    own = {"OWN": {"product": COVER, "classes": [{"name": "a", "colour": "#000000"}], "values": {0: 0}}}
    other = config_of().model_copy(
        update={
            "tasks": type(config_of())
            .model_validate({"name": "x", "modalities": {"AERIAL_RGBI": {}}, "tasks": own, "recipe": {"steps": 1}})
            .tasks
        }
    )
    stranger = UPerFuse(build(other).spec)
    with pytest.raises(CheckpointError, match="the teacher has the tasks"):
        Objective(network, losses, teacher=Teacher(stranger))
