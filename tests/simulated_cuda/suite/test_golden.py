"""Golden cases through the CUDA back end: the public reference's numbers, and the CPU back end's maps."""

from __future__ import annotations

import numpy as np
import pytest
import simulated_tensorrt

from tests.golden import MAX_RELATIVE_ERROR, MIN_ARGMAX_EQUAL, STRIDE_PX, plan, recipe
from tests.simulated_cuda.engines import plan_with_engines
from uperfuse.engine import Engine
from uperfuse.engine.agreement import relative_error

CASES = {
    "lc-a_convnextv2-tiny": "one image",
    "lc-all_swin-tiny": "all seven modalities",
    "lc-g_utae": "one series",
    "lc-h_utae": "series alone, averaged",
    "lpis-i_swin-tiny": "SPOT leads, logits are resized twice",
    "multitask-lc-lpis_swin-tiny": "two tasks",
}


@pytest.mark.parametrize("case", CASES)
def test_the_reference_numbers(case, shared, cuda, home):
    simulated_tensorrt.configure(version="10.3.0")
    maker = recipe(shared)
    description, expected = maker.load(case)
    dates = max((each["dates"] for each in description["modalities"].values() if "dates" in each), default=1)
    source = plan(shared, case)
    settings = {"precision": "float32", "batches": (1,), "dates": (max(dates, 13),)}
    path = plan_with_engines(source, home / f"{case}.plan", **settings)
    inputs = maker.inputs(description)
    with Engine.load(path, device="cuda", precision="float32") as gpu:
        got = gpu.predict(inputs, logits=True)
    with Engine.load(path, device="cpu", precision="float32") as cpu:
        truth = cpu.predict(inputs, logits=True)
    for task in description["tasks"]:
        labels = next(value for key, value in expected.items() if task in key and value.dtype == np.uint8)
        logits = next(value for key, value in expected.items() if task in key and value.dtype != np.uint8)
        assert relative_error(got.logits[task][0, :, ::STRIDE_PX, ::STRIDE_PX], logits) < MAX_RELATIVE_ERROR
        assert (got.labels[task][0] == labels).mean() >= MIN_ARGMAX_EQUAL
        assert (got.labels[task] == truth.labels[task]).mean() >= MIN_ARGMAX_EQUAL
        assert np.abs(got.confidence[task].astype(int) - truth.confidence[task]).max() <= 1
