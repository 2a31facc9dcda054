"""The examples in docstrings run."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
from types import ModuleType

import numpy as np
import pytest

import uperfuse.engine
import uperfuse.kernels
import uperfuse.trainer
from tests.conftest import ROOT
from uperfuse.engine.check import check_tiles_of
from uperfuse.engine.plan import Plan

PLAN = ROOT / "models" / "uperfuse-small.plan"


def modules() -> list[str]:
    found = []
    for package in (uperfuse.engine, uperfuse.kernels, uperfuse.trainer):
        found += [module.name for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")]
        found.append(package.__name__)
    return [name for name in found if not name.endswith("__main__")]


def examples(module: ModuleType) -> list[doctest.DocTest]:
    finder = doctest.DocTestFinder(exclude_empty=True)
    return [test for test in finder.find(module, module.__name__) if test.examples]


@pytest.mark.parametrize("name", modules())
def test_examples_run(name):
    tests = examples(importlib.import_module(name))
    if not tests:
        return
    with Plan.open(PLAN) as plan:
        tiles = check_tiles_of(plan.manifest, seed=1, dates=3)
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS)
    for test in tests:
        test.globs |= {"plan_path": PLAN, "tiles": tiles, "np": np}
        runner.run(test)
    assert runner.summarize(verbose=False).failed == 0


def test_there_are_examples():
    assert sum(len(examples(importlib.import_module(name))) for name in modules()) >= 10
