"""How the tests ask PyTorch whether a custom op is registered rightly."""

from __future__ import annotations

import warnings
from typing import Any

import torch


def assert_registered(op: Any, *arguments: Any) -> None:
    """Schema, fake implementation, autograd, and tracing with fixed and with free sizes, as `opcheck` tests them."""
    with warnings.catch_warnings():
        # opcheck itself looks at .grad of copies that are no leaves
        warnings.filterwarnings("ignore", message="The .grad attribute of a Tensor that is not a leaf")
        torch.library.opcheck(op, arguments)
