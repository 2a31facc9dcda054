"""The loader: spawned workers, chance that depends on seed and draw alone."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch

from uperfuse.engine.flairhub import TASKS
from uperfuse.trainer.data import (
    FLAIRHUB_LABELS,
    Augmentation,
    DataSetError,
    Draw,
    Draws,
    LabelRule,
    PatchDataset,
    Shard,
    choose,
    collate,
    make_loader,
    prepare_sample,
    read_sample,
)
from uperfuse.trainer.data.speed import measure
from uperfuse.trainer.network import UPerFuse
from uperfuse.trainer.training import build, read_config

IMAGES = ("AERIAL_RGBI", "DEM_ELEV")
GROUPS = ("inputs", "days", "masks", "present", "labels")


def same(first, second) -> bool:
    return first.patches == second.patches and all(
        getattr(first, group).keys() == getattr(second, group).keys()
        and all(torch.equal(value, getattr(second, group)[name]) for name, value in getattr(first, group).items())
        for group in GROUPS
    )


def trained_on(data_set, modalities, **settings):
    return PatchDataset(data_set, data_set.split("train").patches, modalities=modalities, **settings)


def test_spawned_workers_give_the_same_batches(data_set, modalities):
    patches = trained_on(data_set, modalities, augmentation=Augmentation(), absence={"SPOT_RGBI": 0.5}, seed=4)
    draws = Draws(len(patches), seed=1, shard=Shard(3), steps=(2, 6))
    alone = list(make_loader(patches, batch=3, draws=draws))
    spawned = make_loader(patches, batch=3, draws=draws, workers=2)
    assert spawned.multiprocessing_context.get_start_method() == "spawn"
    assert len(alone) == 4
    assert all(same(one, other) for one, other in zip(alone, spawned, strict=True))


def test_an_error_in_a_worker_keeps_its_sentence(breakable, modalities):
    from uperfuse.trainer.data import DataSet

    patches = trained_on(DataSet.open(breakable.root), modalities)
    breakable.file("DEM_ELEV").unlink()
    with pytest.raises(DataSetError, match=r"DEM_ELEV.* is not there, and its split file lists it"):
        next(iter(make_loader(patches, batch=1, workers=1)))


def test_chance_depends_on_seed_and_draw(data_set, modalities):
    def first(seed, number):
        patches = trained_on(data_set, modalities, augmentation=Augmentation(), seed=seed)
        return patches[Draw(0, number)].images["AERIAL_RGBI"]

    assert np.array_equal(first(1, 2), first(1, 2))
    assert not np.array_equal(first(1, 2), first(1, 3))
    assert not np.array_equal(first(1, 2), first(2, 2))


def test_second_looks_of_draws_do_without_sensors_and_first_ones_have_all(data_set, modalities):
    patches = trained_on(data_set, modalities, absence=dict.fromkeys(modalities, 0.9))
    held = {*patches[0].images, *patches[0].series}
    drawn = [patches[Draw(0, number)] for number in range(8)]
    assert all({*one.images, *one.series} == held for one in drawn)
    assert all(one.hidden < held for one in drawn)
    assert max(len(one.hidden) for one in drawn) > 1
    assert patches[0].hidden is None
    assert trained_on(data_set, modalities)[Draw(0, 0)].hidden is None


def test_a_teacher_sees_what_its_student_has_to_do_without(data_set, modalities):
    teacher = {name: modalities[name] for name in ("AERIAL_RGBI", "SPOT_RGBI", "SENTINEL2_TS")}
    student = {name: modalities[name].model_copy(update={"may_be_absent": True}) for name in IMAGES}
    true_colour = student["AERIAL_RGBI"].bands[:3]
    channels = tuple(each for each in student["AERIAL_RGBI"].channels if each.name in true_colour)
    fewer = {"bands": true_colour, "channels": channels}
    student["AERIAL_RGBI"] = student["AERIAL_RGBI"].model_copy(update=fewer)
    patches = trained_on(
        data_set, student, absence={"AERIAL_RGBI": 1.0}, teacher=teacher, augmentation=Augmentation(), seed=2
    )
    one = patches[Draw(0, 5)]
    assert one.hidden == {"AERIAL_RGBI"}
    assert one.teacher is not None
    assert {"AERIAL_RGBI", "SENTINEL2_TS"} <= {*one.teacher.images, *one.teacher.series} <= {*teacher}
    whole = trained_on(data_set, student, teacher=teacher, augmentation=Augmentation(), seed=2)[Draw(0, 6)]
    assert whole.images["AERIAL_RGBI"].shape[0] == 3
    assert np.array_equal(whole.images["AERIAL_RGBI"], whole.teacher.images["AERIAL_RGBI"][:3])  # augmented alike
    batch = collate([one, whole])
    assert batch.teacher is not None
    assert batch.teacher.patches == batch.patches
    unfiltered = {"SENTINEL2_TS": modalities["SENTINEL2_TS"].model_copy(update={"filter": None})}
    with pytest.raises(DataSetError, match="SENTINEL2_TS is filtered differently"):
        trained_on(data_set, student | unfiltered, teacher=teacher)


def test_without_augmentation_it_is_what_inference_sees(data_set, modalities):
    patches = PatchDataset(data_set, data_set.split("test").patches, modalities=modalities)
    for index, patch in enumerate(data_set.split("test").patches):
        sample = choose(read_sample(data_set.root, patch, dates=data_set.dates), modalities)
        expected, found = prepare_sample(sample, modalities), patches[index]
        assert all(np.array_equal(found.images[name], image) for name, image in expected.images.items())
        assert all(np.array_equal(found.series[name].pixels, s.pixels) for name, s in expected.series.items())
        assert all(np.array_equal(found.labels[task], label) for task, label in expected.labels.items())


def test_workers_are_sent_the_dates_of_their_split_alone(data_set, modalities):
    whole = trained_on(data_set, modalities)
    some = trained_on(data_set, {"AERIAL_RGBI": modalities["AERIAL_RGBI"]})
    assert len(pickle.dumps(some._dates)) < 100 < len(pickle.dumps(whole._dates))
    test = data_set.split("test").patches
    series = next(name for patch in test for name in patch.files if name in whole._dates)
    with pytest.raises(DataSetError, match="has no dates of"):
        whole._dates[series].of(next(patch.id for patch in test if series in patch.files))


def test_a_patch_that_cannot_be_trained_on_is_refused_at_once(data_set, modalities):
    needed = modalities | {"SPOT_RGBI": modalities["SPOT_RGBI"].model_copy(update={"may_be_absent": False})}
    everyone = tuple(patch for split in data_set.splits.values() for patch in split.patches)
    with pytest.raises(DataSetError, match=r"lacks SPOT_RGBI; leave it out of the split file"):
        PatchDataset(data_set, everyone, modalities=needed)
    crops = {"ALL_LABEL-LPIS": FLAIRHUB_LABELS["ALL_LABEL-LPIS"]}
    with pytest.raises(DataSetError, match="lacks labels of ALL_LABEL-LPIS"):
        PatchDataset(data_set, everyone, modalities=modalities, tasks=crops)


def test_labels_become_a_users_own_classes(data_set, modalities):
    built = {0: 0, 3: 0}
    rule = LabelRule("AERIAL_LABEL-COSIA", ("built", "not built"), {value: built.get(value, 1) for value in range(19)})
    images = {"AERIAL_RGBI": modalities["AERIAL_RGBI"]}
    own = trained_on(data_set, images, tasks={"BUILT": rule})[0].labels["BUILT"]
    given = trained_on(data_set, images)[0].labels["AERIAL_LABEL-COSIA"]
    known = given != 255
    assert np.array_equal(own[known], np.where(np.isin(given[known], [0, 3]), 0, 1))
    assert np.array_equal(own == 255, ~known)
    short = LabelRule("AERIAL_LABEL-COSIA", ("built",), {0: 0})
    with pytest.raises(DataSetError, match=r"pixels, expected one of \[0\] of AERIAL_LABEL-COSIA"):
        trained_on(data_set, images, tasks={"BUILT": short})[0]
    with pytest.raises(DataSetError, match="value 3 becomes class 1, expected values 0 to 255 and classes 0 to 0"):
        LabelRule("AERIAL_LABEL-COSIA", ("built",), {3: 1})
    with pytest.raises(DataSetError, match="labels of BUILT, expected those of"):
        LabelRule("BUILT", ("built",))


def test_every_step_of_loading_is_timed(data_set):
    speed = measure(data_set.root, split="train", most=5)
    assert list(speed.seconds) == ["read", "choose", "augment", "prepare", "collate"]
    assert all(seconds > 0 for seconds in speed.seconds.values())
    assert speed.patches_per_minute == pytest.approx(60 / sum(speed.seconds.values()))


def test_a_batch_with_gaps_is_what_the_network_takes(data_set, modalities):
    splits = [PatchDataset(data_set, split.patches, modalities=modalities) for split in data_set.splits.values()]
    prepared = [patches[index] for patches in splits for index in range(len(patches))]
    gaps = [one for one in prepared if len(one.images) + len(one.series) < len(modalities)]
    empty = [one for one in prepared if any(not len(series.days) for series in one.series.values())]
    whole = [one for one in prepared if len(one.images) + len(one.series) == len(modalities)]
    batch = collate([gaps[0], empty[0], whole[0]])
    torch.manual_seed(0)
    network = UPerFuse(build(read_config("uperfuse-small")).spec).eval()
    with torch.no_grad():
        logits = network(batch.inputs, batch.days, batch.masks, present=batch.present, output_px=(64, 64))
    assert batch.present
    for task, classes in TASKS.items():
        assert logits[task].shape == (3, len(classes), 64, 64)
        assert torch.isfinite(logits[task]).all()
