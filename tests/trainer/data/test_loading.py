"""The loader: spawned workers, chance that depends on seed, epoch and patch alone."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch

from uperfuse.engine.flairhub import TASKS
from uperfuse.trainer.data import (
    Augmentation,
    DataSetError,
    PatchDataset,
    choose,
    collate,
    make_loader,
    prepare_sample,
    read_sample,
)
from uperfuse.trainer.data.speed import measure
from uperfuse.trainer.fit import small_network
from uperfuse.trainer.network import UPerFuse

GROUPS = ("inputs", "days", "masks", "present", "labels")


def same(first, second) -> bool:
    return first.patches == second.patches and all(
        getattr(first, group).keys() == getattr(second, group).keys()
        and all(torch.equal(value, getattr(second, group)[name]) for name, value in getattr(first, group).items())
        for group in GROUPS
    )


def test_spawned_workers_give_the_same_batches_in_every_epoch(data_set, modalities):
    patches = PatchDataset(data_set, "train", modalities=modalities, augmentation=Augmentation(), seed=4)
    alone = make_loader(patches, batch=3, shuffle=True, seed=1)
    spawned = make_loader(patches, batch=3, shuffle=True, seed=1, workers=2)
    assert spawned.multiprocessing_context.get_start_method() == "spawn"
    epochs = []
    for epoch in range(2):
        patches.set_epoch(epoch)
        here, there = list(alone), list(spawned)
        assert len(here) == len(there) == -(-len(patches) // 3)
        assert all(same(one, other) for one, other in zip(here, there, strict=True))
        epochs.append(here)
    order = [[patch for batch in epoch for patch in batch.patches] for epoch in epochs]
    assert set(order[0]) == set(order[1])
    assert order[0] != order[1]


def test_an_error_in_a_worker_keeps_its_sentence(breakable, modalities):
    from uperfuse.trainer.data import DataSet

    patches = PatchDataset(DataSet.open(breakable.root), "train", modalities=modalities)
    breakable.file("DEM_ELEV").unlink()
    with pytest.raises(DataSetError, match=r"DEM_ELEV.* is not there, and its split file lists it"):
        next(iter(make_loader(patches, batch=1, workers=1)))


def test_chance_depends_on_seed_epoch_and_patch(data_set, modalities):
    def first(seed, epoch):
        patches = PatchDataset(data_set, "train", modalities=modalities, augmentation=Augmentation(), seed=seed)
        patches.set_epoch(epoch)
        return patches[0].images["AERIAL_RGBI"]

    assert np.array_equal(first(1, 2), first(1, 2))
    assert not np.array_equal(first(1, 2), first(1, 3))
    assert not np.array_equal(first(1, 2), first(2, 2))


def test_without_augmentation_it_is_what_inference_sees(data_set, modalities):
    patches = PatchDataset(data_set, "test", modalities=modalities)
    for index, patch in enumerate(data_set.split("test").patches):
        sample = choose(read_sample(data_set.root, patch, dates=data_set.dates), modalities)
        expected, found = prepare_sample(sample, modalities), patches[index]
        assert all(np.array_equal(found.images[name], image) for name, image in expected.images.items())
        assert all(np.array_equal(found.series[name].pixels, s.pixels) for name, s in expected.series.items())
        assert all(np.array_equal(found.labels[task], label) for task, label in expected.labels.items())


def test_workers_are_sent_the_dates_of_their_split_alone(data_set, modalities):
    whole = PatchDataset(data_set, "train", modalities=modalities)
    some = PatchDataset(data_set, "train", modalities={"AERIAL_RGBI": modalities["AERIAL_RGBI"]})
    assert len(pickle.dumps(some._dates)) < 100 < len(pickle.dumps(whole._dates))
    test = data_set.split("test").patches
    series = next(name for patch in test for name in patch.files if name in whole._dates)
    with pytest.raises(DataSetError, match="has no dates of"):
        whole._dates[series].of(next(patch.id for patch in test if series in patch.files))


def test_a_patch_that_cannot_be_trained_on_is_refused_at_once(data_set, modalities):
    needed = modalities | {"SPOT_RGBI": modalities["SPOT_RGBI"].model_copy(update={"may_be_absent": False})}
    split = next(
        name for name, split in data_set.splits.items() if any("SPOT_RGBI" not in p.files for p in split.patches)
    )
    with pytest.raises(DataSetError, match=r"of the split .* lacks SPOT_RGBI; leave it out of the split file"):
        PatchDataset(data_set, split, modalities=needed)
    split = next(
        name for name, split in data_set.splits.items() if any("ALL_LABEL-LPIS" not in p.files for p in split.patches)
    )
    with pytest.raises(DataSetError, match="lacks labels of ALL_LABEL-LPIS"):
        PatchDataset(data_set, split, modalities=modalities, tasks=("ALL_LABEL-LPIS",))


def test_every_step_of_loading_is_timed(data_set):
    speed = measure(data_set.root, split="train", most=5)
    assert list(speed.seconds) == ["read", "choose", "augment", "prepare", "collate"]
    assert all(seconds > 0 for seconds in speed.seconds.values())
    assert speed.patches_per_minute == pytest.approx(60 / sum(speed.seconds.values()))


def test_a_batch_with_gaps_is_what_the_network_takes(data_set, modalities):
    splits = [PatchDataset(data_set, name, modalities=modalities) for name in data_set.splits]
    prepared = [patches[index] for patches in splits for index in range(len(patches))]
    gaps = [one for one in prepared if len(one.images) + len(one.series) < len(modalities)]
    empty = [one for one in prepared if any(not len(series.days) for series in one.series.values())]
    whole = [one for one in prepared if len(one.images) + len(one.series) == len(modalities)]
    batch = collate([gaps[0], empty[0], whole[0]])
    torch.manual_seed(0)
    network = UPerFuse(small_network()).eval()
    with torch.no_grad():
        logits = network(batch.inputs, batch.days, batch.masks, present=batch.present, output_px=(64, 64))
    assert batch.present
    for task, classes in TASKS.items():
        assert logits[task].shape == (3, len(classes), 64, 64)
        assert torch.isfinite(logits[task]).all()
