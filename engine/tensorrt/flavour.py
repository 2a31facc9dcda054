"""Which TensorRT is installed, and whether it can do what is asked of it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from importlib import import_module
from typing import Literal, cast

from ..errors import BackendError
from .api import TensorRT
from .capabilities import PACKAGES, FlavourName, Package, Version, has

__all__ = ["Asked", "Flavour", "find_flavour"]

Asked = Literal["auto", "tensorrt", "rtx"]
"""TensorRT whichever is there, TensorRT itself, or TensorRT-RTX."""


@dataclass(frozen=True)
class Flavour:
    """A package of TensorRT that is installed.

    Attributes:
        package: its name.
        version: its version in numbers, (10, 3, 0).
        module: it.
    """

    package: str
    version: Version
    module: TensorRT = field(compare=False, repr=False)

    def __str__(self) -> str:
        return f"{self.package} {self.version_text}"

    @property
    def version_text(self) -> str:
        """Its version as it says it."""
        return self.module.__version__

    @property
    def name(self) -> FlavourName:
        """What a payload records: engines of one flavour run on the same flavour alone."""
        return self._rules.flavour

    @property
    def builds(self) -> bool:
        """Whether it compiles engines."""
        return self._rules.builds

    @property
    def runs_any(self) -> bool:
        """Whether it runs engines that are not version-compatible."""
        return self._rules.runs_any

    def has(self, name: str) -> bool:
        """Whether it has a class of TensorRT's, or a member of it written `Class.member`."""
        return has(self.package, version=self.version, name=name)

    @property
    def _rules(self) -> Package:
        return PACKAGES[self.package]


def find_flavour(asked: Asked, *, need: Literal["build", "run"], version_compatible: bool = False) -> Flavour:
    """Find the first installed TensorRT that can do what is needed.

    Args:
        asked: which.
        need: to compile engines, or to run them.
        version_compatible: whether the engines that are to be run are: the lean and dispatch runtimes take no others.

    Raises:
        BackendError: there is none; it says of each why.
    """
    reasons = []
    for package in PACKAGES.values():
        if asked not in ("auto", _asked_as(package)):
            continue
        refusal = _cannot(package, need=need, version_compatible=version_compatible)
        if refusal is None:
            found = _import(package)
            if isinstance(found, Flavour):
                return found
            refusal = found
        reasons.append(f"{package.name} {refusal}")
    raise BackendError(f"no TensorRT can {need} engines here: " + "; ".join(reasons))


def _asked_as(package: Package) -> str:
    return "rtx" if package.flavour == "tensorrt_rtx" else package.flavour


def _cannot(package: Package, *, need: str, version_compatible: bool) -> str | None:
    """Why a package cannot serve even where it is installed."""
    if need == "build" and not package.builds:
        return "only runs engines"
    if need == "run" and not (package.runs_any or version_compatible):
        return "runs version-compatible engines alone"
    return None


def _import(package: Package) -> Flavour | str:
    """The package, or why it does not serve."""
    try:
        module = import_module(package.name)
    except ModuleNotFoundError as error:
        if error.name == package.name:
            return f"is not installed ({package.install})"
        return f"cannot be imported ({error})"
    except (ImportError, OSError, RuntimeError) as error:  # a library of its own is missing, or of another version
        return f"cannot be imported ({error})"
    text = getattr(module, "__version__", None)
    if text is None:
        return "has no version: something else has its name"
    version = tuple(int(number) for number in re.findall(r"\d+", text.split("+")[0])[:3])
    if version < package.oldest:
        return f"is version {text}, expected {_dotted(package.oldest)} or later; update it"
    if version >= package.before:
        return f"is version {text}, expected one before {_dotted(package.before)}; install an earlier one"
    return Flavour(package.name, version, cast(TensorRT, module))


def _dotted(version: Version) -> str:
    return ".".join(map(str, version))
