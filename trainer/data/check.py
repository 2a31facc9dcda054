"""The check before training: every file of a data set is read, and everything that is broken is listed at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...engine.simulation import MASK
from .dates import Dates, DateTable, dates_file, read_rows
from .errors import DataSetError
from .labels import FLAIRHUB_LABELS, LabelRule
from .layout import PRODUCTS, PatchId
from .reading import read_label, read_pixels
from .splits import Patch, Split, find_split_files, in_two_splits, read_split

__all__ = ["ClassCount", "DomainCount", "Report", "check"]

_CHUNK = 16


@dataclass(frozen=True)
class DomainCount:
    """What one domain has in one split.

    Attributes:
        split: name.
        domain: name.
        patches: number of patches.
        products: product -> number of patches that have it.
    """

    split: str
    domain: str
    patches: int
    products: Mapping[str, int]


@dataclass(frozen=True)
class ClassCount:
    """How often one class occurs.

    Attributes:
        task: whose class.
        name: of the class.
        pixels: split -> number of pixels.
        domains: split -> number of domains in which it occurs.
    """

    task: str
    name: str
    pixels: Mapping[str, int]
    domains: Mapping[str, int]


@dataclass(frozen=True)
class Report:
    """What a check found.

    Attributes:
        root: the data set's folder.
        defects: a sentence for each thing that is broken: what, got, expected, what to do.
        remarks: what is not broken and should be known.
        domains: counts by split and domain.
        classes: counts by task and class.
    """

    root: Path
    defects: tuple[str, ...]
    remarks: tuple[str, ...]
    domains: tuple[DomainCount, ...]
    classes: tuple[ClassCount, ...]

    def require(self) -> None:
        """Refuse a data set that is broken.

        Raises:
            DataSetError: says the first defect, and how many there are.
        """
        if self.defects:
            more = f" (and {len(self.defects) - 1} more)" if len(self.defects) > 1 else ""
            raise DataSetError(f"{self.root} is broken{more}: {self.defects[0]}")


def check(
    root: Path | str,
    *,
    splits: Mapping[str, Path] | None = None,
    tasks: Mapping[str, LabelRule] = FLAIRHUB_LABELS,
    workers: int = 1,
    progress: Callable[[int, int], None] = lambda _done, _all: None,
) -> Report:
    """Read every split file, date and raster of a data set.

    Args:
        root: folder that holds `D..._AERIAL_RGBI` and the others.
        splits: "train", "valid" or "test" -> split file; those in the root and right below it where left out.
        tasks: labels to read.
        workers: processes that read rasters.
        progress: told the number of patches that are read, and of all, after each.

    Returns:
        All defects, and counts of what is whole.

    Raises:
        DataSetError: there is no split file to begin with.
    """
    root = Path(root)
    files = find_split_files(root) if splits is None else splits
    defects: list[str] = []
    read = [split for name, file in files.items() if (split := _split(name, file, defects)) is not None]
    defects += in_two_splits(read)
    dates = _all_dates(root, read, defects)
    tally = _Tally(tasks)
    patches = sum(len(split.patches) for split in read)
    for number, (name, patch, found) in enumerate(_rasters(root, read, dates, tasks, workers), start=1):
        defects += found.defects
        tally.add(name, patch, found)
        progress(number, patches)
    return Report(root, tuple(defects), tuple(_remarks(files, read)), tally.domains(), tally.classes())


@dataclass(frozen=True)
class _Found:
    """What the rasters of one patch hold: defects, and task -> pixels of each class."""

    defects: list[str]
    classes: dict[str, NDArray[np.int64]]


def _split(name: str, file: Path, defects: list[str]) -> Split | None:
    try:
        return read_split(name, file)
    except DataSetError as error:
        defects.append(str(error))
        return None


def _remarks(files: Mapping[str, Path], splits: list[Split]) -> Iterator[str]:
    missing = [name for name in ("train", "valid", "test") if name not in files]
    if missing:
        yield f"no split {' or '.join(missing)}"
    by_name = {split.name: set(split.domains) for split in splits}
    shared = sorted(by_name.get("train", set()) & by_name.get("test", set()))
    if shared:
        yield f"train and test share the domains {', '.join(shared)}: scores say little of places that were not seen"


def _all_dates(root: Path, splits: list[Split], defects: list[str]) -> dict[str, dict[PatchId, Dates]]:
    """Series -> dates of each patch that has readable ones."""
    found: dict[str, dict[PatchId, Dates]] = {}
    for series in (name for name, product in PRODUCTS.items() if product.series == name):
        patches = [patch.id for split in splits for patch in split.patches if series in patch.folders]
        if patches:
            found[series] = _series_dates(root, series, patches, defects)
    return found


def _series_dates(root: Path, series: str, patches: list[PatchId], defects: list[str]) -> dict[PatchId, Dates]:
    try:
        file = dates_file(root, series)
        table = DateTable(file, read_rows(file))
    except DataSetError as error:
        defects.append(str(error))
        return {}
    defects += table.defects
    unreadable = set(table.defects)
    found: dict[PatchId, Dates] = {}
    for patch in patches:
        dates = table.find(patch)
        if not isinstance(dates, str):
            found[patch] = dates
        elif dates not in unreadable:
            defects.append(dates)
    return found


def _rasters(
    root: Path,
    splits: list[Split],
    dates: dict[str, dict[PatchId, Dates]],
    tasks: Mapping[str, LabelRule],
    workers: int,
) -> Iterator[tuple[str, Patch, _Found]]:
    names = [split.name for split in splits for _ in split.patches]
    patches = [patch for split in splits for patch in split.patches]
    when = [{series: by_patch.get(patch.id) for series, by_patch in dates.items()} for patch in patches]
    read = partial(_read_patch, root, tasks)
    if workers == 1:
        yield from zip(names, patches, map(read, patches, when), strict=True)
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        yield from zip(names, patches, pool.map(read, patches, when, chunksize=_CHUNK), strict=True)


def _read_patch(root: Path, tasks: Mapping[str, LabelRule], patch: Patch, dates: dict[str, Dates | None]) -> _Found:
    found = _Found([], {})
    for product, file in patch.files.items():
        series = PRODUCTS[product].series
        when = None if series is None else dates.get(series)
        if series is not None and when is None and (root / file).is_file():
            continue  # its dates are a defect already, and say how many bands it should have
        try:
            rules = {task: rule for task, rule in tasks.items() if rule.product == product}
            for task, rule in rules.items():
                counts = np.bincount(read_label(root / file, rule).ravel(), minlength=len(rule.classes))
                found.classes[task] = counts[: len(rule.classes)]
            if not rules:
                read_pixels(root / file, product, dates=when)
        except DataSetError as error:
            found.defects.append(str(error))
    if PRODUCTS[MASK].series in patch.folders and MASK not in patch.folders:
        found.defects.append(f"{patch.id} has {PRODUCTS[MASK].series} without {MASK}; add the masks")
    if not any(rule.product in patch.folders for rule in tasks.values()):
        labels = " or ".join(rule.product for rule in tasks.values())
        found.defects.append(f"{patch.id} has no label of {labels}; leave it out of the split file")
    return found


@dataclass
class _Tally:
    """Counts that grow patch by patch."""

    tasks: Mapping[str, LabelRule]
    patches: Counter[tuple[str, str]] = field(default_factory=Counter)
    products: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    pixels: Counter[tuple[str, int, str]] = field(default_factory=Counter)
    places: dict[tuple[str, int, str], set[str]] = field(default_factory=dict)

    def add(self, split: str, patch: Patch, found: _Found) -> None:
        domain = patch.id.domain
        self.patches[split, domain] += 1
        for product in patch.folders:
            self.products[split, domain, product] += 1
        for task, counts in found.classes.items():
            for value in np.flatnonzero(counts).tolist():
                self.pixels[task, value, split] += int(counts[value])
                self.places.setdefault((task, value, split), set()).add(domain)

    def domains(self) -> tuple[DomainCount, ...]:
        return tuple(
            DomainCount(split, domain, count, {name: self.products[split, domain, name] for name in PRODUCTS})
            for (split, domain), count in sorted(self.patches.items())
        )

    def classes(self) -> tuple[ClassCount, ...]:
        splits = sorted({split for split, _ in self.patches})
        return tuple(
            ClassCount(
                task,
                name,
                {split: self.pixels[task, value, split] for split in splits},
                {split: len(self.places.get((task, value, split), ())) for split in splits},
            )
            for task, rule in self.tasks.items()
            for value, name in enumerate(rule.classes)
        )
