"""The page of both studies: each program writes its own part, and leaves the other's alone."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Literal

from benchmarks.marks import between
from uperfuse.engine.benchmark import machine

__all__ = ["Part", "circumstances", "spread", "write_part"]

Part = Literal["land cover", "crops"]

_PARTS: tuple[Part, ...] = ("land cover", "crops")
_HEADINGS: dict[Part, str] = {"land cover": "## Land cover of the other side", "crops": "## Crops of other places"}

_INTRODUCTION = """# What the network learns from little, on real rasters

Two studies, each with a random forest of 100 trees beside the network. Both sides get the same numbers to learn from
and are tested on the same ground, which neither has seen. The network begins with random weights and is trained by the
trainer's own loop; nothing was pretrained. Scores are the trainer's (`uperfuse.trainer.scores`): every valid pixel
counts, and means are over classes."""


def write_part(path: Path, part: Part, lines: Sequence[str]) -> None:
    """Put lines into their place of the page, which is begun where there is none.

    Raises:
        ValueError: the page lacks the marks of this part.
    """
    text = path.read_text(encoding="utf-8") if path.exists() else _empty()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(between(text, ["", *lines, ""], begin=_begin(part), end=_end(part)), encoding="utf-8")


def circumstances(command: str, *, minutes: float) -> str:
    """When, where and by what a part was made."""
    today = datetime.now(timezone.utc).date().isoformat()
    return f"`{command}` on {today}, {machine()}; about {_about(minutes)} in all, while other work ran beside it."


def spread(values: Sequence[float]) -> str:
    """Mean and standard deviation, in percent; of one value no deviation."""
    mean = sum(values) / len(values)
    if len(values) == 1:
        return f"{100 * mean:.1f} %"
    deviation = (sum((value - mean) ** 2 for value in values) / (len(values) - 1)) ** 0.5
    return f"{100 * mean:.1f} ± {100 * deviation:.1f} %"


def _about(minutes: float) -> str:
    return f"{max(round(minutes), 1)} minutes" if minutes < 90 else f"{minutes / 60:.1f} hours"


def _begin(part: Part) -> str:
    return f"<!-- {part}: written by `python -m benchmarks.real.{part.replace(' ', '_')}`, from here -->"


def _end(part: Part) -> str:
    return f"<!-- {part}: to here -->"


def _empty() -> str:
    parts = (f"{_HEADINGS[part]}\n\n{_begin(part)}\n{_end(part)}" for part in _PARTS)
    return "\n\n".join([_INTRODUCTION, *parts]) + "\n"
