"""Every kernel of the project, found where kernels lie: `kernels/<operation>/kernel.py`."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from .spec import KernelSpec

__all__ = ["kernel_specs"]


def kernel_specs() -> tuple[KernelSpec, ...]:
    """Collect the declarations of all kernels; needs Triton.

    Returns:
        The declarations, by name.
    """
    specs: dict[str, KernelSpec] = {}
    for path in sorted(Path(__file__).parent.glob("*/kernel.py")):
        module = import_module(f".{path.parent.name}.kernel", __package__)
        for spec in vars(module).values():
            if isinstance(spec, KernelSpec):
                assert specs.setdefault(spec.name, spec) is spec, f"two kernels are named {spec.name}"
    return tuple(specs[name] for name in sorted(specs))
