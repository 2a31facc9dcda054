"""Scores as a Markdown table."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ...engine.engine import Engine
from .loop import Recipe
from .scores import Scores

__all__ = ["write_report"]


def write_report(
    path: Path,
    scores: Mapping[str, Mapping[str, Scores]],
    *,
    engine: Engine,
    recipe: Recipe,
    scenes: int,
    tested: int,
) -> None:
    """Write what was measured.

    Args:
        path: Markdown file.
        scores: which sensors were there -> task -> scores; the first entry is shown by class.
        engine: the plan that was scored.
        recipe: how it was trained.
        scenes: scenes it was trained on.
        tested: tiles it was scored on.
    """
    tasks = [task.name for task in engine.manifest.tasks]
    lines = [
        f"Trained on {scenes} simulated scenes of four tiles: {recipe.steps} batches of {recipe.batch} quarter tiles, "
        f"then {recipe.whole_steps} of whole tiles, seed {recipe.seed}. "
        f"Scored by the plan in {engine.precision} on {tested} tiles of {tested // 4} simulated scenes it never saw.",
        "",
        "| sensors | " + " | ".join(f"{task}: mIoU | accuracy" for task in tasks) + " |",
        "| --- |" + " --- | --- |" * len(tasks),
    ]
    for case, result in scores.items():
        cells = (f"{result[task].mean_iou:.3f} | {result[task].accuracy:.3f}" for task in tasks)
        lines.append(f"| {case} | {' | '.join(cells)} |")
    everything = next(iter(scores.values()))
    for task in tasks:
        lines += ["", f"IoU of {task} with all sensors:", "", "| class | IoU |", "| --- | --- |"]
        lines += [f"| {name} | {value:.3f} |" for name, value in everything[task].iou.items()]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
