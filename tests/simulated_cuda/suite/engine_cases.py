"""What tests of the CUDA back end share: plans with engines, tiles, and when two predictions are the same."""

from __future__ import annotations

import numpy as np

from uperfuse.engine.agreement import relative_error
from uperfuse.engine.check import check_tiles_of
from uperfuse.engine.flairhub import dates_key

BATCHES, DATES = (1, 2), (4, 8)


def tiles_of(engine, *, count=1, dates=5, names=None, seed=40):
    """Random tiles of some modalities, every one another; every second one has a date less."""
    tiles = {}
    for index in range(count):
        one = check_tiles_of(engine.manifest, seed=seed + index, dates=max(dates - index % 2, 1))
        for name, values in one.items():
            if names is None or name in {*names, *map(dates_key, names)}:
                tiles.setdefault(name, []).append(values[0])
    series = {m.name for m in engine.manifest.modalities if m.kind == "series"}
    listed = {*series, *map(dates_key, series)}
    return {name: values if name in listed else np.stack(values) for name, values in tiles.items()}


def assert_same(got, truth, *, tolerance=2e-5, equal=0.999, percent=1):
    """Check that two predictions of the same tiles agree up to rounding; of confidences, all but one in a thousand."""
    assert set(got.labels) == set(truth.labels)
    for task, labels in truth.labels.items():
        if truth.logits:
            assert relative_error(got.logits[task], truth.logits[task]) < tolerance
        assert got.labels[task].dtype == np.uint8
        assert (got.labels[task] == labels).mean() >= equal
        same = got.labels[task] == labels
        apart = np.abs(got.confidence[task].astype(int) - truth.confidence[task])
        assert np.percentile(apart[same], 99.9) <= percent
