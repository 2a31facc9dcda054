"""What the results say, in sentences that are computed from them."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from itertools import combinations

from .kinds import AERIAL, ALL, COVER, CROPS, HISTORY, KINDS, SERIES, WORDS
from .study import Gap, Study

__all__ = [
    "ANSWERS",
    "TASK_WORDS",
    "TRAINED_FOR",
    "absence",
    "auxiliary",
    "history",
    "imbalance",
    "sensors",
    "series",
    "some_absent",
]

TASK_WORDS = {COVER: "land cover", CROPS: "crops"}

ANSWERS = {
    "weights": "class weights",
    "logit-adjustment": "logit adjustment",
    "lovasz": "a Lovász term",
    "sampling": "sampling of patches with rare classes",
}
"""Kinds that answer rare classes -> how, in words."""

TRAINED_FOR = {
    tuple(name for name in ALL if name not in without): kind
    for without, kind in (
        ((HISTORY,), "no-history"),
        (SERIES, "no-series"),
        (tuple(name for name in ALL if name not in SERIES), "series"),
        *((tuple(other for other in ALL if other != name), f"alone-{name}") for name in ALL),
        *((tuple(o for o in ALL if o not in (AERIAL, name)), f"pair-{name}") for name in ALL if name != AERIAL),
    )
}
"""Sensors that are present -> the kind that was trained with just these."""


def sensors(study: Study) -> Iterator[str]:
    """Does fusion beat each sensor?"""
    alone = [f"alone-{name}" for name in ALL]
    pairs = [f"pair-{name}" for name in ALL if name != AERIAL]
    for task, words in TASK_WORDS.items():
        if study.has("all", *alone):
            best = max(alone, key=lambda kind: statistics.fmean(study.values(kind, task)))
            gap = study.gap("all", best, task)
            said = _verdict(
                gap,
                "beats the best single sensor",
                "does not beat the best single sensor beyond the spread",
                falls="is below the best single sensor",
            )
            yield f"In {words}, fusion of all seven {said} ({KINDS[best].words}): {gap}."
        if study.has(f"alone-{AERIAL}", *pairs):
            gaps = {kind: study.gap(kind, f"alone-{AERIAL}", task) for kind in pairs}
            helped = [kind for kind, gap in gaps.items() if gap.plain and gap.mean > 0]
            listed = ", ".join(f"{KINDS[kind].words} {gaps[kind]}" for kind in _by_mean(gaps))
            yield (
                f"In {words}, a second sensor beside the aerial image helps beyond the spread in "
                f"{_count(len(helped), len(pairs))}: {listed}."
            )


def absence(study: Study) -> Iterator[str]:
    """What do learned stand-ins change?"""
    if not study.has("longer", "dropout"):
        return
    every = [chosen for count in range(1, len(ALL)) for chosen in combinations(ALL, count)]
    one = [_without(name) for name in ALL]
    for task, words in TASK_WORDS.items():
        for subsets, lacking in (
            (one, "one sensor absent (mean over the seven)"),
            (every, f"any sensors absent (mean over {len(every)} subsets)"),
        ):
            for way, called in (("zeros", "zeros in their place"), ("mean", "mean maps in their place")):
                gap = some_absent(study, task, way, subsets)
                said = _verdict(gap, "is better", "is not better beyond the spread")
                yield (
                    f"In {words} with {lacking}, the network that learnt with modality dropout {said} than the one "
                    f"that did not, with {called}: {gap}."
                )
        missed = max(ALL, key=lambda name: some_absent(study, task, "mean", [_without(name)]).mean)
        zeros, mean = (some_absent(study, task, way, [_without(missed)]) for way in ("zeros", "mean"))
        yield (
            f"In {words}, most is gained where {WORDS[missed]} alone is absent: {zeros} over zeros, {mean} over mean "
            "maps."
        )
        gaps = [
            Gap.between(
                study.absent("dropout", "stand-in", chosen, task),
                [
                    max(pair)
                    for pair in zip(
                        *(study.absent("longer", way, chosen, task) for way in ("zeros", "mean")), strict=True
                    )
                ],
            )
            for chosen in every
        ]
        won = sum(gap.mean > 0 for gap in gaps)
        yield (
            f"Of all {len(every)} subsets with a sensor absent, it is better in {won} in {words}, counted against the "
            f"better of zeros and mean maps; by {100 * statistics.fmean(gap.mean for gap in gaps):+.1f} points in the "
            "mean."
        )
        gap = study.gap("dropout", "longer", task)
        cost = "nothing beyond the spread" if not gap.plain else "something" if gap.mean < 0 else "less than nothing"
        yield f"With every sensor present, learning so costs {cost} in {words}: {gap}."
    known = {chosen: kind for chosen, kind in TRAINED_FOR.items() if study.has("dropout", kind)}
    for task, words in TASK_WORDS.items():
        if known:
            apart = [
                Gap.between(study.absent("dropout", "stand-in", chosen, task), study.values(kind, task)).mean
                for chosen, kind in known.items()
            ]
            yield (
                f"Against networks trained for just the sensors that are present ({len(known)} of the subsets), this "
                f"one network for all of them is {100 * statistics.fmean(apart):+.1f} points in {words} in the mean "
                f"({100 * min(apart):+.1f} to {100 * max(apart):+.1f})."
            )


def some_absent(study: Study, task: str, way: str, subsets: Sequence[Sequence[str]]) -> Gap:
    """Modality dropout against a way without it: mean over some subsets of sensors."""

    def mean(kind: str, way: str) -> list[float]:
        each = [study.absent(kind, way, present, task) for present in subsets]
        return [statistics.fmean(values) for values in zip(*each, strict=True)]

    return Gap.between(mean("dropout", "stand-in"), mean("longer", way))


def _without(modality: str) -> tuple[str, ...]:
    return tuple(name for name in ALL if name != modality)


def series(study: Study) -> Iterator[str]:
    """Do series decide crops?"""
    for task in (CROPS, COVER):
        if study.has("all", "no-series"):
            gap = study.gap("all", "no-series", task)
            said = _verdict(gap, "add", "do not add beyond the spread", plural=True, falls="do harm when added")
            yield f"In {TASK_WORDS[task]}, the three series {said} to the four images: {gap}."
    if study.has("series", "no-series"):
        gap = study.gap("series", "no-series", CROPS)
        said = _verdict(gap, "are better", "are not better beyond the spread", plural=True)
        yield f"In crops, the series alone {said} than the four images: {gap}."


def imbalance(study: Study) -> Iterator[str]:
    """Is there something for rare classes?"""
    present = [kind for kind in ANSWERS if study.has("all", kind)]
    if not present:
        return
    for task, words in TASK_WORDS.items():
        gaps = {kind: study.gap(kind, "all", task, "rare") for kind in present}
        for kind in _by_mean(gaps):
            said = _verdict(gaps[kind], "rises", "does not rise beyond the spread", falls="falls")
            overall = study.gap(kind, "all", task)
            accuracy = study.gap(kind, "all", task, "accuracy")
            yield (
                f"In {words}, with {ANSWERS[kind]} the mean IoU of rare classes {said}: {gaps[kind]} "
                f"(all classes {overall}, accuracy {accuracy})."
            )


def history(study: Study) -> Iterator[str]:
    """Does history add little?"""
    for task, words in TASK_WORDS.items():
        if study.has("all", "no-history"):
            gap = study.gap("all", "no-history", task)
            yield f"In {words}, the historical image beside the six others {_changes(gap)}: {gap}."
        if study.has(f"pair-{HISTORY}", f"alone-{AERIAL}"):
            gap = study.gap(f"pair-{HISTORY}", f"alone-{AERIAL}", task)
            yield f"In {words}, it {_changes(gap)} beside the aerial image alone: {gap}."


def auxiliary(study: Study) -> Iterator[str]:
    """Do losses of single sensors help?"""
    if not study.has("all", "aux"):
        return
    for task, words in TASK_WORDS.items():
        gap = study.gap("aux", "all", task)
        said = _verdict(gap, "help", "do not help beyond the spread", plural=True, falls="hurt")
        yield f"In {words}, auxiliary losses of all seven sensors {said}: {gap}."


def _verdict(gap: Gap, rises: str, unclear: str, *, falls: str = "", plural: bool = False) -> str:
    if gap.plain:
        if gap.mean > 0:
            return rises
        return falls or ("are worse" if plural else "is worse")
    return unclear


def _changes(gap: Gap) -> str:
    if not gap.plain:
        return "changes nothing beyond the spread"
    return "adds" if gap.mean > 0 else "hurts"


def _by_mean(gaps: dict[str, Gap]) -> list[str]:
    return sorted(gaps, key=lambda kind: gaps[kind].mean, reverse=True)


def _count(some: int, of: int) -> str:
    return f"each of {of} choices" if some == of else f"{some} of {of} choices"
