"""Batches: padding changes nothing, absences are marked, labels stay class maps."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.trainer.conftest import build, small_spec
from uperfuse.trainer.data import PatchId, Prepared, PreparedSeries, collate

RNG = np.random.default_rng(5)


def series(dates: int, bands: int) -> PreparedSeries:
    days = np.sort(RNG.choice(np.arange(-134, 231), dates, replace=False)).astype(np.float32)
    pixels = RNG.normal(1000, 300, (dates, bands, 4, 3)).astype(np.float32)
    return PreparedSeries(pixels, days, np.datetime64("2021-05-15") + days.astype(int))


def patch(number: int, *, dates: int | None, aerial: bool = True, labels: tuple[str, ...] = ("AERIAL_LABEL-COSIA",)):
    return Prepared(
        PatchId.parse(f"D00{number}-2021_AA-S1-{number}_1-1"),
        {"AERIAL_RGBI": RNG.normal(0, 1, (3, 64, 64)).astype(np.float32)} if aerial else {},
        {} if dates is None else {"SENTINEL2_TS": series(dates, 10), "SENTINEL1-ASC_TS": series(dates + 3, 2)},
        {task: RNG.integers(0, 5, (512, 512)).astype(np.uint8) for task in labels},
    )


def test_series_are_padded_to_the_longest_and_masks_say_what_is_real():
    patches = [patch(1, dates=2), patch(2, dates=5), patch(3, dates=0)]
    batch = collate(patches)
    assert batch.inputs["SENTINEL2_TS"].shape == (3, 5, 10, 4, 3)
    assert batch.inputs["SENTINEL1-ASC_TS"].shape == (3, 8, 2, 4, 3)
    assert batch.masks["SENTINEL2_TS"].tolist() == [[True] * 2 + [False] * 3, [True] * 5, [False] * 5]
    for row, one in enumerate(patches):
        for name, given in one.series.items():
            mask = batch.masks[name][row]
            assert np.array_equal(batch.inputs[name][row][mask].numpy(), given.pixels)
            assert np.array_equal(batch.days[name][row][mask].numpy(), given.days)
            assert np.array_equal(batch.dates[name][row], given.dates)
            assert not batch.inputs[name][row][~mask].any()
    assert batch.present == {}
    assert len(batch) == 3
    assert [one.domain for one in batch.patches] == ["D001", "D002", "D003"]


def test_a_batch_of_empty_series_has_one_masked_date():
    batch = collate([patch(1, dates=0)])
    assert batch.inputs["SENTINEL2_TS"].shape == (1, 1, 10, 4, 3)
    assert batch.masks["SENTINEL2_TS"].tolist() == [[False]]


def test_absent_modalities_are_zeros_and_marked():
    batch = collate([patch(1, dates=None), patch(2, dates=4), patch(3, dates=0, aerial=False)])
    assert batch.present["SENTINEL2_TS"].tolist() == [False, True, True]
    assert batch.present["AERIAL_RGBI"].tolist() == [True, True, False]
    assert not batch.inputs["SENTINEL2_TS"][0].any()
    assert not batch.inputs["AERIAL_RGBI"][2].any()
    assert batch.masks["SENTINEL2_TS"].sum(1).tolist() == [0, 4, 0]
    assert "DEM_ELEV" not in batch.inputs


def test_second_looks_say_what_they_do_without():
    looks = [{"SENTINEL2_TS", "DEM_ELEV"}, set(), {"DEM_ELEV"}]
    patches = [replace(patch(n, dates=2), hidden=frozenset(look)) for n, look in enumerate(looks, start=1)]
    shown = collate(patches).shown
    assert {name: rows.tolist() for name, rows in shown.items()} == {
        "DEM_ELEV": [False, True, False],
        "SENTINEL2_TS": [False, True, True],
    }
    assert collate(patches[1:2]).shown == {}  # a second look at everything
    assert collate([patch(1, dates=2)]).shown is None
    assert collate(patches).first(1).shown["SENTINEL2_TS"].tolist() == [False]


def test_a_label_that_a_patch_lacks_is_unknown_everywhere():
    both = ("AERIAL_LABEL-COSIA", "ALL_LABEL-LPIS")
    patches = [patch(1, dates=1), patch(2, dates=1, labels=both), patch(3, dates=1, labels=both[1:])]
    batch = collate(patches)
    for task in both:
        assert batch.labels[task].dtype == torch.uint8
        for row, one in enumerate(patches):
            expected = one.labels.get(task, np.full((512, 512), 255))
            assert np.array_equal(batch.labels[task][row].numpy(), expected)


@pytest.mark.parametrize("alone", [0, 1, 2])
def test_padding_changes_nothing_that_the_network_says(alone):
    spec = small_spec("AERIAL_RGBI", "SENTINEL2_TS", "SENTINEL1-ASC_TS", absent=("SENTINEL2_TS", "SENTINEL1-ASC_TS"))
    network = build(spec)
    patches = [patch(1, dates=2), patch(2, dates=7), patch(3, dates=None)]

    def logits(batch):
        inputs = {name: value.double() for name, value in batch.inputs.items()}
        days = {name: value.double() for name, value in batch.days.items()}
        with torch.no_grad():
            return network(inputs, days, batch.masks, present=batch.present)["AERIAL_LABEL-COSIA"]

    together, single = logits(collate(patches))[alone], logits(collate(patches[alone : alone + 1]))[0]
    torch.testing.assert_close(together, single, rtol=1e-10, atol=1e-10)


def test_a_batch_moves_as_a_whole():
    batch = collate([patch(1, dates=2), patch(2, dates=None)])
    moved = batch.to("meta")
    groups = ("inputs", "days", "masks", "present", "labels")
    assert all(t.device.type == "meta" for group in groups for t in getattr(moved, group).values())
    assert all(getattr(moved, group).keys() == getattr(batch, group).keys() for group in groups)
    assert moved.patches == batch.patches
    assert moved.dates.keys() == batch.dates.keys()
