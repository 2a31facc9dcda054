"""Ctrl-C while engines come and go: two `Core`s of OpenVINO would leave the thread without a stack for signals."""

from __future__ import annotations

import subprocess
import sys

CLOSED_IN_ORDER = """
import signal, sys
from uperfuse.engine import Engine

first, second = (Engine.load(sys.argv[1]) for _ in range(2))
first.close()
second.close()
del first, second
try:
    signal.raise_signal(signal.SIGINT)
except KeyboardInterrupt:
    print("interrupted")
"""


def run(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    # a handler of Python's own, even where whoever started the tests ignores Ctrl-C
    handled = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    return subprocess.run([sys.executable, "-c", handled + program, *arguments], capture_output=True, text=True)


def test_engines_closed_in_the_order_of_loading_leave_ctrl_c_alone(plans):
    done = run(CLOSED_IN_ORDER, str(plans("aerial")[0]))
    assert (done.returncode, done.stdout) == (0, "interrupted\n"), done.stderr
