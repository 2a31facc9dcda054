"""Calls in a window: each is answered once, a scheduler has few of them, and quick ones do not wait for messages."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import CancelledError

import pytest

from uperfuse.engine import BackendError
from uperfuse.engine.cluster import connect, open_cluster
from uperfuse.engine.cluster.window import MOST_AHEAD, Window, answering

WORKERS = 2
LEAST = 3 * WORKERS


@pytest.fixture(scope="module")
def two() -> Iterator[connect.Cluster]:
    with open_cluster(f"local:{WORKERS}") as cluster:
        yield cluster


def moody(number: int) -> int | None:
    """A number, nothing or an error, all of which are answers."""
    if number % 7 == 0:
        raise ValueError(f"{number} does not please")
    return None if number % 5 == 0 else -number


def slow(number: int) -> int:
    time.sleep(0.3)
    return number


def tasks(dask_scheduler) -> int:
    return len(dask_scheduler.tasks)


def test_every_call_is_answered_once_and_nothing_of_it_stays(two: connect.Cluster) -> None:
    with Window(two.client, moody, range(1, 1000)) as window:
        answers = {answer.argument: answer for answer in window}
    assert sorted(answers) == [*range(1, 1000)]
    for number, answer in answers.items():
        if number % 7 == 0:
            assert str(answer.error) == f"{number} does not please"
        else:
            assert answer.error is None
            assert answer.result == (None if number % 5 == 0 else -number)
    del answers, answer
    deadline = time.monotonic() + 10
    while two.client.futures or two.client.run_on_scheduler(tasks):
        assert time.monotonic() < deadline, "futures of calls that were answered are forgotten"
        time.sleep(0.05)


def test_slow_calls_are_few_ahead(two: connect.Cluster) -> None:
    with Window(two.client, slow, range(20)) as window:
        pending = [len(window._pending) for _ in window]
    assert len(pending) == 20
    assert max(pending) <= LEAST


def test_quick_calls_are_many_ahead_and_bounded(two: connect.Cluster) -> None:
    with Window(two.client, abs, range(3000)) as window:
        pending = [len(window._pending) for _ in window]
    assert len(pending) == 3000
    assert LEAST < max(pending) <= MOST_AHEAD * WORKERS


def test_what_is_called_again_goes_ahead_of_what_waits(two: connect.Cluster) -> None:
    order: list[int] = []
    with Window(two.client, slow, range(24)) as window:
        for answer in window:
            if not order:
                again = answer.argument
                window.again(again)
            order.append(answer.argument)
    assert len(order) == 25
    assert order.count(again) == 2
    assert len(order) - 1 - order[::-1].index(again) <= 2 * LEAST


def test_calls_that_are_not_waited_for_are_taken_back(two: connect.Cluster) -> None:
    with Window(two.client, slow, range(1000)) as window:
        next(iter(window))
    deadline = time.monotonic() + 20
    while two.client.run_on_scheduler(tasks):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_call_that_is_cancelled_is_answered_by_an_error(two: connect.Cluster) -> None:
    with Window(two.client, slow, range(LEAST)) as window:
        answers = iter(window)
        first = next(answers)
        two.client.cancel([*window._pending])
        rest = [*answers]
    assert first.error is None
    assert len(rest) == LEAST - 1
    assert any(isinstance(answer.error, CancelledError) for answer in rest)
    assert all(answer.error is not None or answer.result == answer.argument for answer in rest)


def test_no_answer_is_said_in_a_sentence() -> None:
    with pytest.raises(BackendError, match=r"does not answer any more: gone away; mend it, .*--resume"), answering():
        raise OSError("gone\n away")
    with pytest.raises(BackendError, match="any more: TimeoutError; mend it"), answering():
        raise TimeoutError
    with pytest.raises(BackendError, match=r"^as it was$"), answering():
        raise BackendError("as it was")
