"""Another Python process that runs a module of ours."""

from __future__ import annotations

import sys

__all__ = ["python_command"]


def python_command(module: str, *arguments: str) -> list[str]:
    """The command that runs `main()` of a module by this interpreter.

    Modules come from where this process has them, and not from the folder that it runs in.

    Args:
        module: by its full name.
        arguments: `sys.argv[1:]` of the process.
    """
    program = f"import sys; sys.path[:] = {sys.path!r}; from {module} import main; main()"
    return [sys.executable, "-c", program, *arguments]
