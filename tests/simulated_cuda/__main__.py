"""Runs tests on the simulated driver: `python -m tests.simulated_cuda FILE [pytest's arguments]`."""

import subprocess
import sys

from .build import build, environment

if __name__ == "__main__":
    build()
    done = subprocess.run([sys.executable, "-m", "pytest", *sys.argv[1:]], env=environment(), check=False)
    sys.exit(done.returncode)
