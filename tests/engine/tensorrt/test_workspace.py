"""Scratch memory of a build stays within what is free."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from uperfuse.engine import BackendError
from uperfuse.engine.tensorrt.workspace import MIN_WORKSPACE_BYTES, workspace

GIB = 1 << 30
SIZES = st.integers(min_value=0, max_value=200 * GIB)


def test_a_quarter_stays_free_beside_a_host_of_its_own():
    assert workspace(40 * GIB, total_bytes=80 * GIB, integrated=False, available_host_bytes=GIB) == 30 * GIB


def test_a_board_shares_its_memory_with_the_host():
    assert workspace(12 * GIB, total_bytes=32 * GIB, integrated=True, available_host_bytes=20 * GIB) == 6 * GIB
    assert workspace(20 * GIB, total_bytes=32 * GIB, integrated=True, available_host_bytes=8 * GIB) == 4 * GIB


@pytest.mark.parametrize(("integrated", "words"), [(False, "device memory"), (True, "shares with the host")])
def test_too_little_is_refused(integrated, words):
    with pytest.raises(BackendError, match=rf"50 MiB of .*{words}.*close other programs"):
        workspace(50 << 20, total_bytes=GIB, integrated=integrated, available_host_bytes=GIB)


@given(free=SIZES, total=SIZES, integrated=st.booleans(), host=SIZES)
def test_it_never_passes_what_is_free(free, total, integrated, host):
    try:
        got = workspace(free, total_bytes=total, integrated=integrated, available_host_bytes=host)
    except BackendError:
        assert min(free, total, host if integrated else total) < 2 * MIN_WORKSPACE_BYTES
        return
    assert MIN_WORKSPACE_BYTES <= got < min(free, total)
    assert not integrated or got <= host // 2
    more = workspace(free + GIB, total_bytes=total + GIB, integrated=integrated, available_host_bytes=host + GIB)
    assert more > got
