"""The runtime alone, as a user installs it: no PyTorch, on the oldest Python and another one."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import ROOT
from uperfuse.engine import Engine
from uperfuse.engine.check import check_tiles_of

PLAN = ROOT / "models" / "uperfuse-small.plan"

PREDICT = """
import importlib.util, json, sys
import numpy as np
from uperfuse.engine import Engine
from uperfuse.engine.check import check_tiles_of

assert importlib.util.find_spec("torch") is None
with Engine.load(sys.argv[1], precision="float32") as engine:
    prediction = engine.predict(check_tiles_of(engine.manifest, seed=5, dates=11))
np.savez(sys.argv[2], **prediction.labels)
print(json.dumps({"python": sys.version_info[:2], "torch": "torch" in sys.modules}))
"""


def interpreter(release: str) -> str:
    """Path of a Python interpreter: on the path, or kept by pyenv."""
    found = shutil.which(f"python{release}")
    root = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    kept = sorted((root / "versions").glob(f"{release}.*/bin/python"))
    candidates = [*map(str, kept), *([found] if found else [])]
    for candidate in candidates:
        says = [candidate, "-c", "import venv, sys; print(sys.version)"]
        works = subprocess.run(says, capture_output=True, text=True)
        if works.returncode == 0 and works.stdout.startswith(f"{release}."):
            return candidate
    pytest.skip(f"no Python {release} on this machine")


@pytest.mark.parametrize("release", ["3.10", "3.12"])
def test_predicts_without_pytorch(release, tmp_path):
    subprocess.run([interpreter(release), "-m", "venv", str(tmp_path / "venv")], check=True)
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "--quiet", "--upgrade", "pip"], check=True)
    subprocess.run([python, "-m", "pip", "install", "--quiet", str(ROOT)], check=True)
    out = tmp_path / "labels.npz"
    result = subprocess.run(
        [python, "-W", "error", "-c", PREDICT, str(PLAN), str(out)],
        check=True,
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    said = json.loads(result.stdout.splitlines()[-1])
    assert said == {"python": [int(number) for number in release.split(".")], "torch": False}
    with Engine.load(PLAN, precision="float32") as engine:
        expected = engine.predict(check_tiles_of(engine.manifest, seed=5, dates=11)).labels
    with np.load(out) as labels:
        assert set(labels) == set(expected)
        for task, values in expected.items():
            assert (labels[task] == values).mean() > 0.9999
    version = subprocess.run([python.parent / "uperfuse", "--version"], check=True, capture_output=True, text=True)
    assert version.stdout.startswith("uperfuse ")
