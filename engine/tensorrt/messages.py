"""What TensorRT says while it works: one logger per process, and who was listening when it spoke.

TensorRT keeps the first logger that it is given for as long as any of its objects lives, so there is one of ours for
each module, and it stays. Messages go to those that listen in the thread that TensorRT speaks in; from a thread of
TensorRT's own, to all that listen.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

from .api import Enumerator, ILogger, TensorRT
from .flavour import Flavour

__all__ = ["Heard", "Messages", "attempt", "messages_of"]

Result = TypeVar("Result")

_MAX_WORDS = 600


@dataclass
class Heard:
    """Messages of one piece of work, each once, in the order in which they came.

    Attributes:
        errors: what TensorRT calls an error.
        warnings: what it calls a warning.
        details: others that were asked for.
    """

    errors: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    details: list[str] = field(default_factory=list)

    def words(self) -> str:
        """The errors in one line, or that there were none."""
        text = "; ".join(" ".join(error.split()) for error in self.errors)
        if not text:
            return "TensorRT gave no reason"
        return f"TensorRT says: {text[:_MAX_WORDS]}{' ...' if len(text) > _MAX_WORDS else ''}"


class Messages:
    """Our logger of one module of TensorRT's."""

    def __init__(self, flavour: Flavour) -> None:
        self.logger = _make_logger(flavour, self)
        self._lock = threading.Lock()
        self._listening: list[tuple[int, Heard, str | None]] = []

    @contextmanager
    def heard(self, *, details: str | None = None) -> Iterator[Heard]:
        """Listen to what TensorRT says of the work that this thread does meanwhile.

        Args:
            details: how other messages begin that are kept: TensorRT speaks of every layer, many times.
        """
        entry = (threading.get_ident(), Heard(), details)
        with self._lock:
            self._listening.append(entry)
        try:
            yield entry[1]
        finally:
            with self._lock:
                self._listening = [each for each in self._listening if each is not entry]

    def take(self, kind: str, text: str) -> None:
        """Hand a message ("errors", "warnings" or "details") to those whom it concerns."""
        with self._lock:
            here = [each for each in self._listening if each[0] == threading.get_ident()]
            for _, heard, details in here or self._listening:
                kept: list[str] = getattr(heard, kind)
                wanted = kind != "details" or (details is not None and text.startswith(details))
                if wanted and text not in kept:
                    kept.append(text)


_MESSAGES: dict[TensorRT, Messages] = {}
_LOCK = threading.Lock()


def messages_of(flavour: Flavour) -> Messages:
    """The one logger of a module, made when it is first asked for."""
    with _LOCK:
        if flavour.module not in _MESSAGES:
            _MESSAGES[flavour.module] = Messages(flavour)
        return _MESSAGES[flavour.module]


def attempt(heard: Heard, call: Callable[[], Result]) -> Result | None:
    """What a call into TensorRT gives; None where it raises, whose words are then among the errors."""
    try:
        return call()
    except (RuntimeError, TypeError) as error:  # its bindings raise TypeError for what could not be made
        heard.errors.append(str(error))
        return None


def _make_logger(flavour: Flavour, messages: Messages) -> ILogger:
    trt = flavour.module
    base: Any = trt.ILogger
    error, warning = int(trt.ILogger.ERROR), int(trt.ILogger.WARNING)

    class Logger(base):  # type: ignore[misc]  # the module is known only now
        def __init__(self) -> None:
            base.__init__(self)

        def log(self, severity: Enumerator, text: str) -> None:
            level = int(severity)
            messages.take("errors" if level <= error else "warnings" if level <= warning else "details", text)

    return cast(ILogger, Logger())
