"""The README's snippets run, and its YAML is what the code takes."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
import yaml

from tests.conftest import ROOT
from uperfuse.engine.rasters import Scene
from uperfuse.trainer.export import ExportConfig
from uperfuse.trainer.training import TrainConfig

README = (ROOT / "README.md").read_text(encoding="utf-8")


def snippets(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("code", snippets("python"), ids=["predict", "prime"])
def test_python_runs(code):
    result = subprocess.run([sys.executable, "-W", "error", "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_yaml_is_understood():
    scene, config, training = map(yaml.safe_load, snippets("yaml"))
    assert set(Scene.model_validate(scene).inputs) == {"AERIAL_RGBI", "DEM_ELEV", "SENTINEL2_TS"}
    assert ExportConfig.model_validate(config).tasks["WETLANDS"].classes[2].ignored
    assert TrainConfig.model_validate(training).tasks["GREEN-AND-GREY"].classes[3].ignored


def test_commands_and_options_exist():
    for line in " ".join(snippets("bash")).replace("\\\n", " ").splitlines():
        if not line.startswith("uperfuse "):
            continue
        command, *words = line.removeprefix("uperfuse ").split()
        said = subprocess.run(
            [sys.executable, "-m", "uperfuse.engine.cli", command, "--help"], capture_output=True, text=True, check=True
        ).stdout
        for option in (word for word in words if word.startswith("-")):
            assert option in said, f"{command} has no {option}"


def test_links_lead_somewhere():
    for target in re.findall(r"\]\(((?!https?:)[^)]+)\)", README):
        assert (ROOT / target).exists(), target
