"""Enums and the logger, with TensorRT's names and numbers."""

from __future__ import annotations

import weakref
from enum import Enum
from typing import ClassVar

__all__ = [
    "BuilderFlag",
    "ComputeCapability",
    "DataType",
    "DynamicShapesKernelSpecializationStrategy",
    "ExecutionContextAllocationStrategy",
    "ILogger",
    "MemoryPoolType",
    "NetworkDefinitionCreationFlag",
    "RtxBuilderFlag",
    "Severity",
    "TensorFormat",
    "TensorIOMode",
    "TensorLocation",
    "Voice",
]


class _Value(Enum):
    def __int__(self) -> int:
        return int(self.value)


class DataType(_Value):
    FLOAT = 0
    HALF = 1
    BF16 = 7


class TensorIOMode(_Value):
    NONE = 0
    INPUT = 1
    OUTPUT = 2


class TensorLocation(_Value):
    DEVICE = 0
    HOST = 1


class TensorFormat(_Value):
    LINEAR = 0


class BuilderFlag(_Value):
    TF32 = 7
    VERSION_COMPATIBLE = 13


class RtxBuilderFlag(_Value):
    TF32 = 7
    REQUIRE_USER_ALLOCATION = 28


RtxBuilderFlag.__name__ = "BuilderFlag"


class MemoryPoolType(_Value):
    WORKSPACE = 0


class NetworkDefinitionCreationFlag(_Value):
    STRONGLY_TYPED = 1


class ExecutionContextAllocationStrategy(_Value):
    STATIC = 0
    ON_PROFILE_CHANGE = 1
    USER_MANAGED = 2


class DynamicShapesKernelSpecializationStrategy(_Value):
    LAZY = 0
    EAGER = 1
    NONE = 2


class ComputeCapability(_Value):
    SM75 = 75
    SM80 = 80
    SM86 = 86
    SM89 = 89
    SM120 = 120


class Severity(_Value):
    INTERNAL_ERROR = 0
    ERROR = 1
    WARNING = 2
    INFO = 3
    VERBOSE = 4


class ILogger:
    Severity = Severity
    INTERNAL_ERROR = Severity.INTERNAL_ERROR
    ERROR = Severity.ERROR
    WARNING = Severity.WARNING
    INFO = Severity.INFO
    VERBOSE = Severity.VERBOSE

    def __init__(self) -> None:
        self._made = True

    def log(self, severity: Severity, text: str) -> None:
        raise NotImplementedError


class Voice:
    """Speaks through the logger of the first object that lives, as TensorRT does."""

    _living: ClassVar[weakref.WeakSet[Voice]] = weakref.WeakSet()

    def __init__(self, logger: ILogger, where: str) -> None:
        if not getattr(logger, "_made", False):
            raise TypeError("ILogger.__init__() must be called when overriding __init__")
        first = next(iter(Voice._living), None)
        self.logger = logger if first is None else first.logger
        if self.logger is not logger:
            logger.log(
                Severity.WARNING,
                f"The logger passed into {where} differs from one already registered for an existing builder, runtime, "
                "or refitter. So the current new logger is ignored, and TensorRT will use the existing one which is "
                "returned by nvinfer1::getLogger() instead.",
            )
        Voice._living.add(self)

    def say(self, severity: Severity, text: str) -> None:
        self.logger.log(severity, text)

    def error(self, text: str) -> None:
        self.say(Severity.ERROR, text)
