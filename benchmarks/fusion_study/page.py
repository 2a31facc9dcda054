"""The page: tables and sentences, all of them from the results."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Sequence
from itertools import combinations
from pathlib import Path

from . import findings
from .findings import ANSWERS, TASK_WORDS
from .kinds import ALL, COVER, CROPS, KINDS, WORDS
from .plots import draw
from .running import AVERAGED_OVER
from .study import Measure, Study, ends_of

__all__ = ["page", "publish"]

_PAGE = "fusion.md"


def publish(study: Study, folder: Path) -> None:
    """Write the page and its plots."""
    plots = draw(study, folder)
    (folder / _PAGE).write_text("\n".join(page(study, plots)) + "\n", encoding="utf-8")


def page(study: Study, plots: dict[str, str]) -> Iterator[str]:
    """Lines of the page.

    Args:
        study: all results.
        plots: file beside the page -> what it shows.
    """
    yield "# What each sensor adds, and what its absence costs"
    yield from ("", *_introduction(study))
    sections: tuple[tuple[str, Iterator[str], Sequence[str], str], ...] = (
        ("Sensors", _sensor_table(study), [*findings.sensors(study)], "fusion-sensors.png"),
        ("Sensors that are absent", _absence_table(study), [*findings.absence(study)], "fusion-absent.png"),
        ("Series and crops", iter(()), [*findings.series(study)], ""),
        ("Rare classes", _rare_table(study), [*findings.imbalance(study)], "fusion-rare.png"),
        ("History", iter(()), [*findings.history(study)], ""),
        ("Auxiliary losses", iter(()), [*findings.auxiliary(study)], ""),
    )
    for heading, table, sentences, plot in sections:
        lines = [*table]
        if not (sentences or lines):
            continue
        yield from ("", f"## {heading}", "")
        yield from (f"- {sentence}" for sentence in sentences)
        if plot in plots:
            yield from ("", f"![{plots[plot]}]({plot})")
        if lines:
            yield from ("", *lines)
    yield from ("", *_circumstances(study))


def _introduction(study: Study) -> Iterator[str]:
    settings, seeds = study.settings, len(study.seeds)
    yield (
        f"Networks of the same kind and size, trained by the trainer's own loop on {study.learnt} patches of simulated "
        f"land in {study.domains[0]} domains and scored in {study.domains[1]} others, on {study.tested} of "
        f"{study.test_patches} test patches, which every sensor has seen. The networks are small (ConvNeXt V2 "
        "16-32-48-64, one block a stage; U-TAE 16-16-16-32; UPerNet of 16 channels), images are taken at "
        f"0.8 m or coarser. For each seed a network of every sensor alone learns both tasks in {settings.first_steps} "
        f"steps of {settings.batch} patches. Every network of the tables, those of one sensor as well, begins with "
        f"these encoders and with new decoders and learns in another {settings.steps} steps, so that none has seen "
        f"more than another; two go on from the network of all seven for {settings.more_steps} steps more. It is "
        "enough to tell choices apart, not to tell how good a network can become."
    )
    yield ""
    if seeds == 1:
        yield "One seed was run: no spread is known, and nothing can lie beyond it."
    else:
        yield (
            f"Each kind was trained with {seeds} seeds, of weights, order and augmentation. Numbers are mean ± "
            "standard deviation over seeds, of differences that of the differences seed by seed; a difference lies "
            "beyond the spread when its mean is more than twice that. mIoU is the macro mean over the evaluated "
            "classes that occur, in percent, of every fourth pixel along both axes; of subsets of sensors, of every "
            "16th."
        )


def _sensor_table(study: Study) -> Iterator[str]:
    kinds = [kind for kind in KINDS if study.has(kind) and kind not in ANSWERS]
    yield "| network | land cover: mIoU | accuracy | crops: mIoU | accuracy | parameters (M) |"
    yield "| --- | ---: | ---: | ---: | ---: | ---: |"
    for kind in kinds:
        cells = [_cell(study, kind, task, measure) for task in (COVER, CROPS) for measure in ("mIoU", "accuracy")]
        size = next(result.parameters for result in study.results if result.kind == kind)
        yield f"| {KINDS[kind].words} | {' | '.join(cells)} | {size / 1e6:.2f} |"


def _absence_table(study: Study) -> Iterator[str]:
    """Scores under each way of answering absence, by the number of sensors that are absent, and for each one."""
    if not study.has("longer", "dropout"):
        return
    ways = (("longer", "zeros"), ("longer", "mean"), ("dropout", "stand-in"))
    settings = study.settings
    yield (
        f"Both sides begin with the network of all seven and learn {settings.more_steps} steps more, with the same "
        "draws. One of them looks at every patch twice: whole, and without each sensor with a probability of "
        f"{KINDS['dropout'].dropout:g}; both looks weigh alike. Learnt stand-ins then take an absent sensor's place "
        "(*dropout and stand-ins*). This was settled by scores of the first two seeds. Dropout from the first step on "
        "was tried before, in place of whole patches and beside them: with as few steps as here it changed the scores "
        "from seed to seed by more than what it gained."
    )
    yield ""
    yield (
        "How the network without stand-ins is scored: an absent image is zeros (the mean of images) and an absent "
        "series has no date, as it learnt them where a patch lacked a sensor (*zeros*); or the sensor's projected maps "
        f"are replaced by their mean over {AVERAGED_OVER} training patches (*mean maps*)."
    )
    yield ""
    heads = ("zeros", "mean maps", "dropout and stand-ins", "a network trained for these sensors")
    yield "| present | " + " | ".join(f"{words}: {head}" for words in TASK_WORDS.values() for head in heads) + " |"
    yield "| --- |" + " ---: |" * (len(heads) * len(TASK_WORDS))
    rows = [(f"all but {WORDS[name]}", tuple(other for other in ALL if other != name)) for name in ALL]
    rows += [("the four images", tuple(n for n in ALL if not n.endswith("_TS")))]
    rows += [("the three series", tuple(n for n in ALL if n.endswith("_TS")))]
    rows += [(f"aerial + {WORDS[name]}", (ALL[0], name)) for name in ALL[1:]]
    rows += [(f"{WORDS[name]} alone", (name,)) for name in ALL]
    for label, present in rows:
        cells = []
        for task in TASK_WORDS:
            cells += [_spread(study.absent(kind, way, present, task)) for kind, way in ways]
            own = findings.TRAINED_FOR.get(present)
            cells.append(_cell(study, own, task, "mIoU") if own is not None and study.has(own) else "")
        yield f"| {label} | {' | '.join(cells)} |"
    for count in range(len(ALL), 0, -1):
        cells = []
        for task in TASK_WORDS:
            for kind, way in ways:
                each = [study.absent(kind, way, chosen, task) for chosen in combinations(ALL, count)]
                cells.append(_spread([statistics.fmean(values) for values in zip(*each, strict=True)]))
            cells.append("")
        yield f"| mean over all subsets of {count} | {' | '.join(cells)} |"


def _rare_table(study: Study) -> Iterator[str]:
    kinds = [kind for kind in ("all", *ANSWERS) if study.has(kind)]
    for task, words in TASK_WORDS.items():
        shares = study.shares[task]
        listed = ", ".join(f"{name} {100 * shares[name]:.2f}" for name in study.rare(task))
        yield f"Rare in {words}, below 1 % of the pixels that are learnt from (percent): {listed}."
        yield ""
    yield (
        "| loss | "
        + " | ".join(
            f"{words}: {head}" for words in TASK_WORDS.values() for head in ("rare classes", "all classes", "accuracy")
        )
        + " |"
    )
    yield "| --- |" + " ---: |" * 6
    for kind in kinds:
        measures: tuple[Measure, ...] = ("rare", "mIoU", "accuracy")
        cells = [_cell(study, kind, task, measure) for task in TASK_WORDS for measure in measures]
        yield f"| {'cross-entropy' if kind == 'all' else KINDS[kind].words} | {' | '.join(cells)} |"


def _circumstances(study: Study) -> Iterator[str]:
    machines = sorted({result.machine for result in study.results})
    dates = sorted({result.date for result in study.results})
    minutes = sum(result.processor_seconds for result in study.results) / 60
    seeds = ", ".join(map(str, study.seeds))
    days = " to ".join(dict.fromkeys((dates[0], dates[-1])))
    yield (
        f"`{study.command}`: {len(study.results)} runs, seeds {seeds}, of {minutes:.0f} minutes of one core in all; "
        f"data set of {study.land.patches} patches, seed {study.land.seed}; {'; '.join(machines)}; {days}. "
        "All results: `benchmarks/fusion_study/results.json`."
    )


def _cell(study: Study, kind: str, task: str, measure: Measure) -> str:
    return _spread(study.values(kind, task, measure))


def _spread(values: Sequence[float]) -> str:
    ends = ends_of(values)
    if math.isnan(ends["deviation"]):
        return f"{100 * ends['mean']:.1f}"
    return f"{100 * ends['mean']:.1f} ± {100 * ends['deviation']:.1f}"
