"""What follows from measured costs: the arithmetic of the paper simulation, and the tables."""

from __future__ import annotations

from dataclasses import replace

import pytest

from benchmarks.halo import HALOS_PX, Agreement, table
from benchmarks.scale import FRANCE_PX, WORKERS, Costs, days, report

COSTS = Costs(read=0.01, network=0.1, task=0.002, publish=0.0, core_px=384**2, tiles_per_task=8)
TILES = FRANCE_PX / 384**2


def test_france_is_as_large_as_it_is_said_to_be() -> None:
    assert pytest.approx(13.75e12) == FRANCE_PX


def test_the_slowest_stage_sets_the_pace() -> None:
    spent, slowest = days(COSTS, 10)
    assert (slowest, spent) == ("network", pytest.approx(TILES * 0.1 / 10 / 86400))
    assert days(COSTS, 10, speedup=20) == (pytest.approx(TILES * 0.01 / 10 / 86400), "reading")
    assert days(COSTS, 1000, speedup=20) == (pytest.approx(TILES / 8 * 0.002 / 86400), "scheduling")


def test_publishing_is_of_one_process() -> None:
    slow = replace(COSTS, publish=0.05)
    for workers in WORKERS:
        assert days(slow, workers)[0] - days(COSTS, workers)[0] == pytest.approx(TILES * 0.05 / 86400)


def test_the_report_holds_every_number() -> None:
    seconds = {"one engine": [4.0, 2.0, 3.0], "2 processes": [2.0, 1.5, 1.0]}
    text = "\n".join(report(seconds, {1000: 0.0021, 100_000: 0.0019}, COSTS))
    assert "| 2 processes | 1.50 (1.00 to 2.00) | 2.00 x |" in text
    assert "| 100,000 | 1.90 |" in text
    assert text.count("(network)") + text.count("(reading)") + text.count("(scheduling)") == 3 * len(WORKERS)


def test_the_table_of_rims_has_a_row_for_each() -> None:
    found = [Agreement("here", "LAND", halo_px, 9, 1 - 1 / (100 + halo_px), 0.5) for halo_px in HALOS_PX]
    lines = table(found, tile_px=512)
    assert len(lines) == 2 + len(HALOS_PX)
    assert lines[0].endswith("| here, LAND |")
    assert "| 64 | 1.78 | 99.390%, 0.50 |" in lines
