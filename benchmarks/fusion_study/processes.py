"""Runs in processes of one thread each, that read the land once."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from multiprocessing import get_context, parent_process
from multiprocessing.process import BaseProcess
from pathlib import Path
from threading import Thread

import torch

from .kinds import KINDS, Settings
from .running import encoder_file, file_of, learn_first, run, weights_file, write
from .world import World

__all__ = ["run_all"]

_world: World | None = None


def run_all(root: Path, runs: Path, jobs: Sequence[tuple[str, int]], settings: Settings, *, workers: int) -> None:
    """Run what the folder lacks: encoders, networks that begin with them, and those that begin with networks."""
    missing = [(name, seed) for name, seed in jobs if not file_of(runs, name, seed).exists()]
    begun = dict.fromkeys((KINDS[name].begins, seed) for name, seed in missing if KINDS[name].begins)
    again = [job for job in begun if job not in missing and not weights_file(runs, *job).exists()]
    missing += again
    early = [(name, seed) for name, seed in missing if not KINDS[name].begins]
    late = [(name, seed) for name, seed in missing if KINDS[name].begins]
    needed = {(sensor, seed): None for name, seed in missing for sensor in KINDS[name].modalities}
    firsts = [(sensor, seed) for sensor, seed in needed if not encoder_file(runs, sensor, seed).exists()]
    print(f"{len(missing)} of {len({*jobs, *again})} runs to do, {len(firsts)} encoders to train before", flush=True)
    if not missing:
        return
    context = get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_begin, initargs=(root,)) as pool:
        try:
            _wait([pool.submit(_learn_one, sensor, seed, settings, runs) for sensor, seed in firsts])
            for some in (early, late):
                _wait([pool.submit(_run_one, name, seed, settings, runs) for name, seed in some])
        except BaseException:  # whatever stops the study, nothing that has not begun begins
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _wait(futures: Sequence[Future[str]]) -> None:
    """Print what each has to say, as soon as it is done."""
    for count, future in enumerate(as_completed(futures), start=1):
        print(f"{count} of {len(futures)}: {future.result()}", flush=True)


def _begin(root: Path) -> None:
    """What a process does before its first run."""
    global _world
    Thread(target=_end_with, args=(parent_process(),), daemon=True).start()
    torch.set_num_threads(1)
    _world = World.read(root)


def _end_with(parent: BaseProcess | None) -> None:
    """A study that is killed takes its processes along, which would go through all that they were sent."""
    assert parent is not None, "a pool begins it"
    parent.join()
    os._exit(1)


def _learn_one(modality: str, seed: int, settings: Settings, runs: Path) -> str:
    assert _world is not None, "_begin has read it"
    learn_first(modality, _world, settings, seed=seed, path=encoder_file(runs, modality, seed))
    return f"encoder of {modality}, seed {seed}"


def _run_one(name: str, seed: int, settings: Settings, runs: Path) -> str:
    assert _world is not None, "_begin has read it"
    encoders = {sensor: encoder_file(runs, sensor, seed) for sensor in KINDS[name].modalities}
    kind, begun = KINDS[name], any(other.begins == name for other in KINDS.values())
    done = run(
        kind,
        _world,
        settings,
        seed=seed,
        encoders=encoders,
        begins=weights_file(runs, kind.begins, seed) if kind.begins else None,
        keep=weights_file(runs, name, seed) if begun else None,
    )
    write(done, runs)
    scores = ", ".join(f"{task} {each.mean_iou:.3f}" for task, each in done.scores.items())
    return f"{name}, seed {seed}: mIoU {scores} ({done.processor_seconds:.0f} s of a processor)"
