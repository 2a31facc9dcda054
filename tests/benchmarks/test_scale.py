"""What follows from measured costs: the arithmetic of the paper simulation, and the tables."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.halo import HALOS, Agreement, table
from benchmarks.scale import (
    BEGIN,
    CREWS,
    DEPARTMENTS,
    END,
    FRANCE_PX,
    SPEEDUPS,
    Costs,
    Scheduled,
    days,
    report,
    scheduling,
    with_section,
)

COSTS = Costs(read=0.01, network=0.1, task=0.002, publish=0.0, core_px=384**2, tiles_per_task=8)
TILES = FRANCE_PX / 384**2


def test_france_is_as_large_as_it_is_said_to_be() -> None:
    assert pytest.approx(13.75e12) == FRANCE_PX


def test_the_slowest_stage_sets_the_pace() -> None:
    spent, slowest = days(COSTS, 10)
    assert (slowest, spent) == ("network", pytest.approx(TILES * 0.1 / 10 / 86400))
    assert days(COSTS, 10, speedup=20) == (pytest.approx(TILES * 0.01 / 10 / 86400), "reading")
    assert days(COSTS, 1000, speedup=20) == (pytest.approx(TILES / 8 * 0.002 / 86400), "scheduling")


def test_readers_of_a_worker_share_its_tiles() -> None:
    assert days(COSTS, 10, speedup=200, readers=4) == (pytest.approx(TILES * 0.01 / 4 / 10 / 86400), "reading")


def test_each_run_publishes_and_schedules_for_itself() -> None:
    slow = replace(COSTS, publish=0.05)
    for workers, runs in CREWS:
        assert runs <= min(workers, DEPARTMENTS)
        more = days(slow, workers, runs=runs)[0] - days(COSTS, workers, runs=runs)[0]
        assert more == pytest.approx(TILES * 0.05 / runs / 86400)
    assert days(COSTS, 1000, runs=4, speedup=1e9, readers=10**6) == (
        pytest.approx(TILES / 8 * 0.002 / 4 / 86400),
        "scheduling",
    )


def test_the_report_holds_every_number() -> None:
    seconds = {"one engine": [4.0, 2.0, 3.0], "2 processes": [2.0, 1.5, 1.0]}
    found = [Scheduled(100_000, 0.0019, 0.0007, (130.2, 140.7), (110.0, 111.6))]
    text = "\n".join(report(seconds, found, COSTS, side_px=640, command="python -m benchmarks.scale mine.plan"))
    assert "    python -m benchmarks.scale mine.plan\n" in text
    assert "640 x 640 px" in text
    assert "| 2 processes | 1.50 (1.00 to 2.00) | 2.00 x |" in text
    assert "| 100,000 | 1.90 | 0.70 | 0.237 | 130 to 141 | 110 to 112 |" in text
    assert f"| 64 | 16 of 96 | {days(COSTS, 64, runs=16)[0]:,.2f} (network) |" in text
    counted = sum(text.count(f"({name})") for name in ("network", "reading", "scheduling"))
    assert counted == len(SPEEDUPS) * len(CREWS)


def test_tasks_are_counted_and_memory_is_looked_at() -> None:
    few, more = scheduling([40, 300])
    assert (few.tasks, more.tasks) == (40, 300)
    assert 0 < more.processor_seconds < 10 * more.seconds
    for first, last in (few.here_mb, more.here_mb, more.worker_mb):
        assert 20 < first <= last + 5


def test_a_document_keeps_what_is_not_between_its_marks() -> None:
    text = f"above\n{BEGIN}\nold\n{END}\nbelow\n"
    assert with_section(text, ["new", "lines"]) == f"above\n{BEGIN}\nnew\nlines\n{END}\nbelow\n"
    for broken in (text.replace(END, ""), text + BEGIN):
        with pytest.raises(ValueError, match="times, expected once; put it back"):
            with_section(broken, [])
    document = Path(__file__).parents[2] / "docs" / "scale.md"
    assert "\nnew\n" in with_section(document.read_text(encoding="utf-8"), ["new"])


def test_the_table_of_rims_has_a_row_for_each() -> None:
    found = [Agreement("here", "LAND", halo, 1 - 1 / (100 + 512 * halo), 0.5) for halo in HALOS]
    lines = table(found)
    assert len(lines) == 2 + len(HALOS)
    assert lines[0].endswith("| here, LAND |")
    assert "| 1/8 | 1.78 | 99.390%, 0.50 |" in lines
