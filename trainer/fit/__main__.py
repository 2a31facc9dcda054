"""`python -m uperfuse.trainer.fit`: simulate, train, export and score the small network."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import torch
import typer

from ...engine.engine import Engine
from ..checkpoint import load_checkpoint, save_checkpoint
from ..export import export_checkpoint
from .loop import Recipe, train
from .report import write_report
from .scores import score
from .small import CONFIG, NAME, small_modalities, small_network
from .world import simulate_tiles

_FIRST_TRAINING_SEED = 1_000
_FIRST_TEST_SEED = 900_000


def main(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for checkpoint, plan and report.")],
    scenes: Annotated[int, typer.Option(help="Scenes to learn from, of four tiles each.")] = 160,
    test_scenes: Annotated[int, typer.Option(help="Scenes to score on.")] = 12,
    steps: Annotated[int, typer.Option(help="Batches of quarter tiles.")] = Recipe.steps,
    whole_steps: Annotated[int, typer.Option(help="Batches of whole tiles.")] = Recipe.whole_steps,
    learning_rate: Annotated[float, typer.Option(help="Peak of the cycle.")] = Recipe.learning_rate,
    start: Annotated[Path | None, typer.Option(help="Checkpoint whose weights are the beginning.")] = None,
    first_seed: Annotated[int, typer.Option(help="Seed of the first scene.")] = _FIRST_TRAINING_SEED,
    threads: Annotated[int, typer.Option(help="Processor threads.")] = 2,
) -> None:
    """Make the small plan from nothing but a seed."""
    torch.set_num_threads(threads)
    seeds = range(first_seed, first_seed + scenes)
    tiles = list(simulate_tiles(seeds, workers=threads))
    print(f"{len(tiles)} tiles simulated", flush=True)
    recipe = Recipe(steps=steps, whole_steps=whole_steps, learning_rate=learning_rate)
    network = train(
        small_network(),
        tiles,
        small_modalities(),
        recipe=recipe,
        start=None if start is None else load_checkpoint(start).network,
        say=lambda line: print(line, flush=True),
    )
    del tiles
    out.mkdir(parents=True, exist_ok=True)
    checkpoint = out / f"{NAME}.safetensors"
    save_checkpoint(network, checkpoint)
    export_checkpoint(checkpoint, out=out / f"{NAME}.plan", config=CONFIG, overwrite=True, say=print)
    unseen = list(simulate_tiles(range(_FIRST_TEST_SEED, _FIRST_TEST_SEED + test_scenes), workers=threads))
    with Engine.load(out / f"{NAME}.plan") as engine:
        absent = {"all sensors": (), "aerial image alone": tuple(m.name for m in engine.manifest.modalities[1:])}
        absent |= {f"without {m.name}": (m.name,) for m in engine.manifest.modalities[1:]}
        scores = {case: score(engine, unseen, absent=names) for case, names in absent.items()}
        write_report(out / "scores.md", scores, engine=engine, recipe=recipe, scenes=scenes, tested=len(unseen))


if __name__ == "__main__":
    typer.run(main)
