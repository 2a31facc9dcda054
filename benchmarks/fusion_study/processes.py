"""Runs in processes of one thread each, that read the land once."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path

import torch

from .kinds import KINDS, Settings
from .running import Result, file_of, run, write
from .world import World

__all__ = ["run_all"]

_world: World | None = None


def run_all(root: Path, runs: Path, jobs: Sequence[tuple[str, int]], settings: Settings, *, workers: int) -> None:
    """Run what the folder of runs lacks."""
    missing = [(name, seed) for name, seed in jobs if not file_of(runs, name, seed).exists()]
    print(f"{len(missing)} of {len(jobs)} runs to do", flush=True)
    if not missing:
        return
    context = get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_begin, initargs=(root,)) as pool:
        futures = [pool.submit(_run_one, name, seed, settings, runs) for name, seed in missing]
        try:
            for count, future in enumerate(as_completed(futures), start=1):
                done = future.result()
                scores = ", ".join(f"{task} {each.mean_iou:.3f}" for task, each in done.scores.items())
                print(
                    f"{count} of {len(missing)}: {done.kind}, seed {done.seed}: mIoU {scores} "
                    f"({done.processor_seconds:.0f} s of a processor)",
                    flush=True,
                )
        except BaseException:  # whatever stops the study, nothing that has not begun begins
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _begin(root: Path) -> None:
    """What a process does before its first run."""
    global _world
    torch.set_num_threads(1)
    _world = World.read(root)


def _run_one(name: str, seed: int, settings: Settings, runs: Path) -> Result:
    assert _world is not None, "_begin has read it"
    result = run(KINDS[name], _world, settings, seed=seed)
    write(result, runs)
    return result
