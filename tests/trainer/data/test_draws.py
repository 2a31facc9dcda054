"""The stream of draws: the same for any number of processes, portions and restarts."""

from __future__ import annotations

import numpy as np
import pytest

from uperfuse.trainer.data import Draws, Shard, draw_absent


def drawn(steps, *, count=7, weights=None, **share):
    return [*Draws(count, seed=3, shard=Shard(**share), steps=steps, weights=weights)]


def test_processes_portions_and_restarts_share_one_stream():
    whole = drawn((0, 6), batch=8)
    assert [draw.number for draw in whole] == [*range(48)]
    assert drawn((0, 2), batch=8) + drawn((2, 6), batch=8) == whole
    parts = [drawn((0, 6), batch=8, processes=2, process=process, portions=2) for process in (0, 1)]
    assert all(len(part) == 24 for part in parts)
    for step in range(6):
        here = [draw for part in parts for draw in part[step * 4 : (step + 1) * 4]]
        assert sorted(here, key=lambda draw: draw.number) == whole[step * 8 : (step + 1) * 8]


def test_every_item_comes_once_in_a_lap_and_laps_differ():
    laps = [[draw.index for draw in drawn((lap, lap + 1), batch=7)] for lap in range(4)]
    assert all(sorted(lap) == [*range(7)] for lap in laps)
    assert len({tuple(lap) for lap in laps}) > 1


def test_weights_are_the_odds_of_being_drawn():
    counts = np.bincount([draw.index for draw in drawn((0, 500), batch=8, count=4, weights=[0, 1, 1, 2])], minlength=4)
    assert counts[0] == 0
    assert counts[1:] / 4000 == pytest.approx([0.25, 0.25, 0.5], abs=0.03)


def test_shares_and_weights_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="a batch of 6 over 2 processes and 2 portions each"):
        Shard(6, processes=2, portions=2)
    with pytest.raises(ValueError, match="no item to draw from"):
        drawn((0, 1), batch=1, count=0)
    for weights in ([1.0], [0.0] * 7, [-1.0] + [1.0] * 6, [np.nan] * 7):
        with pytest.raises(ValueError, match="weights for drawing 7 items"):
            drawn((0, 1), batch=1, weights=weights)


def test_never_all_modalities_are_absent():
    held = ("A", "B", "C")
    rng = np.random.default_rng(0)
    kept = [held[0] not in draw_absent(held, dict.fromkeys(held, 1.0), rng) for _ in range(300)]
    assert 0.2 < np.mean(kept) < 0.5
    for _ in range(200):
        assert len(draw_absent(held, dict.fromkeys(held, 0.9), rng)) < 3
        assert draw_absent(("A",), {"A": 1.0}, rng) == frozenset()
        assert "A" not in draw_absent(held, {"B": 1.0, "C": 1.0}, rng)


def test_modalities_are_absent_as_often_as_configured():
    rng = np.random.default_rng(1)
    draws = [draw_absent(("A", "B", "C"), {"A": 0.3, "B": 0.1}, rng) for _ in range(4000)]
    assert np.mean(["A" in each for each in draws]) == pytest.approx(0.3, abs=0.03)
    assert np.mean(["B" in each for each in draws]) == pytest.approx(0.1, abs=0.02)
