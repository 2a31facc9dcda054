"""The part that training shares: labels and truth to scores, by groups."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal

from uperfuse.engine.flairhub import MODALITIES
from uperfuse.engine.plan.network import Task
from uperfuse.trainer.description import describe_modality
from uperfuse.trainer.evaluation import Tally
from uperfuse.trainer.evaluation.groups import Groups
from uperfuse.trainer.scores import scores_of

CLASSES = [
    {"name": "a", "colour": "#ff0000"},
    {"name": "b", "colour": "#00ff00"},
    {"name": "c", "colour": "#0000ff", "ignored": True},
]
TASKS = [Task.model_validate({"name": name, "classes": CLASSES}) for name in ("dotted.name", "other-name")]


def tensors(**values) -> dict[str, torch.Tensor]:
    return {
        name.replace("dotted", "dotted.name").replace("other", "other-name"): torch.tensor(v)
        for name, v in values.items()
    }


def test_batches_tasks_and_groups_are_apart():
    tally = Tally(TASKS, groups=["east", "west"])
    found = tensors(dotted=[[[0, 1]], [[1, 1]]], other=[[[0, 0]], [[2, 0]]])
    truth = tensors(dotted=[[[0, 0]], [[1, 2]]], other=[[[255, 0]], [[0, 1]]])
    tally.update(found, truth, groups=[["east"], ["west", "unheard of"]])
    tally.update(tensors(dotted=[[[0, 0]]]), tensors(dotted=[[[0, 0]]]), groups=[["east"]])
    assert_array_equal(tally.confusion("dotted.name"), [[3, 1, 0], [0, 1, 0], [0, 0, 0]])
    assert_array_equal(tally.confusion("dotted.name", group="east"), [[3, 1, 0], [0, 0, 0], [0, 0, 0]])
    assert_array_equal(tally.confusion("dotted.name", group="west"), [[0, 0, 0], [0, 1, 0], [0, 0, 0]])
    # mapped as an ignored class is wrong; an unknown pixel does not count
    assert_array_equal(tally.confusion("other-name"), [[1, 0, 1], [1, 0, 0], [0, 0, 0]])
    assert tally.scores("other-name").accuracy == pytest.approx(1 / 3)
    assert tally.scores("dotted.name", group="east") == scores_of(
        np.array([[3, 1, 0], [0] * 3, [0] * 3]), TASKS[0].classes
    )
    with pytest.raises(KeyError):
        tally.scores("dotted.name", group="unheard of")
    with pytest.raises(KeyError):
        tally.scores("nothing")
    tally.reset()
    tally.update(tensors(dotted=[[[0, 0]]]), tensors(dotted=[[[0, 1]]]))
    assert_array_equal(tally.confusion("dotted.name"), [[1, 0, 0], [1, 0, 0], [0, 0, 0]])


def test_where_nothing_was_seen_nothing_counts():
    tally = Tally(TASKS[:1])
    tally.update(tensors(dotted=[[[255, 255, 1, 0]]]), tensors(dotted=[[[0, 2, 0, 0]]]))
    assert_array_equal(tally.confusion("dotted.name"), [[1, 1, 0], [0] * 3, [0] * 3])


def test_subsets_have_one_name_each_and_it_is_the_shorter_one():
    modalities = {
        name: describe_modality(
            name,
            channels=len(facts.bands),
            network="x",
            may_be_absent=name != "AERIAL_RGBI",
            tile_px=facts.tile_px,
        )
        for name, facts in MODALITIES.items()
    }
    groups = Groups.of(modalities, ["D2", "D1", "D2"])
    names = groups.names("modalities")
    assert len(set(names)) == len(names) == 2**6
    assert names[0] == "all"
    assert "without DEM_ELEV" in names
    assert "only AERIAL_RGBI" in names
    assert groups.names("domain") == ("D1", "D2")
    assert len(set(groups.keys)) == len(groups.keys)
    assert list(groups.names("dates")) == ["0", "1 to 2", "3 to 5", "6 to 10", "11 to 20", "21 or more"]
