"""How often classes occur in the labels of training, for losses and draws that answer rare ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..data import LabelRule, Patch
from ..data.reading import read_label

__all__ = ["class_counts", "sampling_odds"]

_CHUNK = 64


def class_counts(
    root: Path, patches: Sequence[Patch], tasks: Mapping[str, LabelRule], *, workers: int = 1
) -> dict[str, NDArray[np.int64]]:
    """Pixels of each class in each patch: task -> [patches, K].

    Args:
        root: of the data set.
        patches: N of them.
        tasks: labels to read; a patch without them has no pixels.
        workers: processes that read.
    """
    read = partial(_counts, root, dict(tasks))
    if workers <= 1:
        found = [read(patch) for patch in patches]
    else:
        with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
            found = [*pool.map(read, patches, chunksize=_CHUNK)]
    return {task: np.stack([each[task] for each in found]) for task in tasks}


def sampling_odds(
    counts: Mapping[str, NDArray[np.int64]], *, ignored: Mapping[str, Sequence[bool]], powers: Mapping[str, float]
) -> NDArray[np.float64] | None:
    """How much likelier each patch is drawn: the mean over its pixels of one over a power of their class's share.

    Args:
        counts: task -> pixels of each class in each patch, [N, K].
        ignored: task -> whether a class is left out.
        powers: task -> the power; 0 draws all alike.

    Returns:
        [N], with mean 1 over the patches that have labels; None where all are drawn alike.
    """
    odds = []
    for task, power in powers.items():
        if not power:
            continue
        valid = np.where(np.array([*ignored[task]], np.bool_), 0, counts[task]).astype(np.float64)
        share = valid.sum(0) / max(valid.sum(), 1.0)
        rarity = np.where(share > 0, np.maximum(share, 1e-6) ** -power, 0.0)
        pixels = valid.sum(1)
        odds.append(np.where(pixels > 0, (valid * rarity).sum(1) / np.maximum(pixels, 1), 0.0))
    if not odds:
        return None
    mean = np.mean([each / max(each[each > 0].mean() if (each > 0).any() else 1.0, 1e-12) for each in odds], axis=0)
    # a patch without valid pixels of these tasks may have others
    lowest = mean[mean > 0].min() if (mean > 0).any() else 1.0
    result: NDArray[np.float64] = np.maximum(mean, lowest)
    return result


def _counts(root: Path, tasks: dict[str, LabelRule], patch: Patch) -> dict[str, NDArray[np.int64]]:
    files = patch.files
    return {
        task: np.bincount(read_label(root / files[rule.product], rule).ravel(), minlength=2**8)[: len(rule.classes)]
        if rule.product in files
        else np.zeros(len(rule.classes), np.int64)
        for task, rule in tasks.items()
    }
