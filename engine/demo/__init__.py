"""The demonstration: a simulated place, mapped, compared with its truth and drawn."""

from .agreement import Agreement, ClassAgreement
from .run import DemoResult, TaskResult, run_demo

__all__ = ["Agreement", "ClassAgreement", "DemoResult", "TaskResult", "run_demo"]
