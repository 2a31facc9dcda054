"""Chooses what is timed, and says in one line why nothing is."""

from __future__ import annotations

import os

import pytest

_LINES: pytest.StashKey[list[str]] = pytest.StashKey()


def why_not(config: pytest.Config) -> str | None:
    """Why kernels are not timed here, if they are not."""
    import torch

    if not config.getoption("--benchmark"):
        return "kernels are timed with --benchmark only"
    if not torch.cuda.is_available():
        return "no CUDA GPU on this machine: no kernel is timed"
    if os.environ.get("TRITON_INTERPRET", "0") != "0":
        return "TRITON_INTERPRET is set, and the interpreter has no times: unset it, and run no tests beside"
    return None


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """All cases, or a single one that is skipped."""
    if "case" not in metafunc.fixturenames:
        return
    reason = why_not(metafunc.config)
    if reason is not None:
        # without a GPU or without --benchmark there is nothing to time: one line says which, not one per case
        metafunc.parametrize("case", [pytest.param(None, marks=pytest.mark.skip(reason=reason), id="none")])
        return
    from .cases import cases

    metafunc.parametrize("case", cases(), ids=str)


@pytest.fixture
def lines(request: pytest.FixtureRequest) -> list[str]:
    """What the terminal shows at the end."""
    return request.config.stash.setdefault(_LINES, [])


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Times of every side, beside their floors."""
    lines = config.stash.get(_LINES, [])
    if lines:
        terminalreporter.section("kernels: p20 / p50 / p80, cold L2; floors are arithmetic (docs/roofline.md)")
        terminalreporter.write("\n".join(lines) + "\n")
