"""What is near enough to the truth, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from uperfuse.engine import BackendError, Plan
from uperfuse.engine.agreement import BOUNDS, mean_iou, refuse_unlike
from uperfuse.engine.backends.cpu import CpuBackend
from uperfuse.engine.backends.verify import against_check, against_processor, fixed_batches


def test_mean_iou_counts_classes_that_occur():
    truth = np.array([0, 0, 1, 1, 3])
    assert mean_iou(truth, truth, classes=5) == 100
    # class 0: 1 of 2, class 1: 2 of 3, class 3: 1 of 1; class 2 and 4 occur nowhere
    assert mean_iou(np.array([0, 1, 1, 1, 3]), truth, classes=5) == pytest.approx(100 * (1 / 2 + 2 / 3 + 1) / 3)
    # a class that only the map has counts nothing for it
    assert mean_iou(np.array([4, 0, 1, 1, 3]), truth, classes=5) == pytest.approx(100 * (1 / 2 + 1 + 1 + 0) / 4)


def test_fixed_tiles_are_the_same_everywhere_and_hold_what_is_needed(plans):
    with Plan.open(plans("all")[0]) as plan:
        full, least = fixed_batches(plan.manifest)
        again, _ = fixed_batches(plan.manifest)
        few, _ = fixed_batches(plan.manifest, most_dates=4)
    assert set(least) == {"AERIAL_RGBI"}
    assert set(full) > set(least)
    assert (full["AERIAL_RGBI"] == again["AERIAL_RGBI"]).all()
    assert len(few["SENTINEL2_TS"][0]) == 4
    with Plan.open(plans("aerial")[0]) as plan:
        assert len(fixed_batches(plan.manifest)) == 1


class Spoilt:
    """The processor, with its logits turned by a class."""

    def __init__(self, backend):
        self.backend = backend

    def predict(self, *arguments, **options):
        found = self.backend.predict(*arguments, **options)
        turned = {task: np.roll(logits, 1, axis=1) for task, logits in found.logits.items()}
        return type(found)(found.labels, found.confidence, turned)


def test_the_same_back_end_agrees_and_another_network_does_not(plans):
    with Plan.open(plans("all")[0]) as plan:
        processor = CpuBackend(plan, precision="float32", threads=None)
        try:
            same = against_processor(processor, processor, plan.manifest)
            checked = against_check(processor, plan)
            other = against_processor(Spoilt(processor), processor, plan.manifest)
        finally:
            processor.close()
    assert [each.task for each in same] == [task.name for task in plan.manifest.tasks]
    assert all((each.relative_error, each.argmax_equal, each.miou) == (0, 1, 100) for each in same)
    for precision in BOUNDS:
        refuse_unlike(same, precision=precision, what="it")
        refuse_unlike(checked, precision=precision, what="it")
        with pytest.raises(BackendError, match="it gives other maps of AERIAL_LABEL-COSIA than the plan"):
            refuse_unlike(other, precision=precision, what="it")
