"""The command line as a whole: what it offers, and how it fails."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version

import pytest


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "uperfuse.engine.cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_version():
    assert run("--version").stdout.split() == ["uperfuse", version("uperfuse")]


def test_help_lists_every_command():
    said = run("--help").stdout
    assert all(f" {command} " in said for command in ("export", "inspect", "verify", "sign", "keys", "predict", "demo"))


@pytest.mark.parametrize("command", ["inspect", "verify", "predict"])
def test_a_missing_plan_is_one_sentence_and_a_failure(command, tmp_path):
    options = ["--input", "AERIAL_RGBI=x.tif", "-o", tmp_path / "out"] if command == "predict" else []
    result = run(command, tmp_path / "missing.plan", *options)
    assert result.returncode == 1
    assert result.stderr.count("\n") == 1
    assert result.stderr.startswith("error: ")
    assert "missing.plan" in result.stderr


def test_verbose_adds_the_traceback(tmp_path):
    result = run("--verbose", "inspect", tmp_path / "missing.plan")
    assert result.returncode == 1
    assert "Traceback" in result.stderr
    assert result.stderr.splitlines()[-1].startswith("error: ")


def test_an_unknown_option_is_refused(tmp_path):
    result = run("inspect", tmp_path / "x.plan", "--colour")
    assert result.returncode == 2
    assert "--colour" in result.stderr
