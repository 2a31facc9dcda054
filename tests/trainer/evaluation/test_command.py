"""`uperfuse evaluate`, as a user runs it."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from uperfuse.engine import cli
from uperfuse.engine.flairhub import TASKS


def run(*arguments):
    command = [sys.executable, "-m", "uperfuse.engine.cli", "evaluate", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture
def refused(monkeypatch, capfd):
    """What the command says when it fails; in this process, for another takes seconds to import what it needs."""

    def said(*arguments):
        monkeypatch.setattr(sys, "argv", ["uperfuse", "evaluate", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        assert ended.value.code == 1
        return capfd.readouterr().err

    return said


def test_tables_and_files_and_a_comparison(checkpoint, plan, patchwork, of_plan, tmp_path):
    files = {kind: tmp_path / f"report.{kind}" for kind in ("json", "markdown", "html")}
    asked = [part for kind, path in files.items() for part in (f"--{kind}", path)]
    done = run(
        plan,
        patchwork.root,
        "--against",
        checkpoint,
        "--precision",
        "float32",
        "--device",
        "cpu",
        *asked,
        "--examples",
        1,
    )
    assert done.returncode == 0, done.stderr
    assert "cpu, float32; 8 patches of the split test" in done.stdout
    assert "Compared on the same patches" in done.stdout
    read = json.loads(files["json"].read_text(encoding="utf-8"))
    assert (read["kind"], read["against"][0]["kind"]) == ("plan", "checkpoint")
    for task, said in zip(of_plan.tasks, read["tasks"], strict=True):
        assert said["confusion"]["pixels_by_true_then_mapped"] == task.confusion.tolist()
        assert f"{task.name}: mIoU {100 * task.scores.mean_iou:.2f} %" in done.stdout
    assert files["markdown"].read_text(encoding="utf-8").startswith("# tiny on the split test\n")
    page = files["html"].read_text(encoding="utf-8")
    assert page.count("<img") == 3 * 2 * len(TASKS)
    assert all(str(path) in done.stdout.replace("\n", "") for path in files.values())


def test_a_folder_that_is_missing_is_found_out_first(refused, patchwork, tmp_path):
    said = refused(tmp_path / "unread", patchwork.root, "--html", tmp_path / "missing" / "page.html")
    assert said.startswith(f"error: {tmp_path}/missing/page.html cannot be written, for there is no folder")
    assert said.count("\n") == 1


def test_a_model_that_is_missing(refused, patchwork, tmp_path):
    assert refused(tmp_path / "unread", patchwork.root) == (
        f"error: No such file or directory: {tmp_path}/unread; check the path, its permissions and the space left\n"
    )
