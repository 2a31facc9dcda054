"""What TensorRT's refusals mean, and what to do about them."""

from __future__ import annotations

import re

from .flavour import Flavour
from .messages import Heard

__all__ = ["BUILD_AGAIN", "REPORT", "explain_refusal", "remedy"]

BUILD_AGAIN = "run `uperfuse build` on the plan again"
REPORT = "report it"

# what TensorRT's words mean; wordings of 10, 11 and of TensorRT-RTX
_CAUSES = (
    (
        r"version of TensorRT|library version|[Ss]erialization version|stdVersionRead|Version tag|newer plan file",
        "was built by another version of TensorRT",
    ),
    (
        r"incompatible device|hardware-compatible engine|compute capability|[Uu]nsupported SM",
        "was built for another kind of GPU",
    ),
    (r"[Pp]latform", "was built on another platform"),
    (r"stub loadRunner", "is not version-compatible, and this runtime takes no other"),
    (r"[Ll]ean runtime|host code", "carries a lean runtime, which is code that this process did not say it trusts"),
    (r"magic|kMAGIC_TAG|[Ss]erialization assertion", "is damaged"),
)
_MEMORY = re.compile(r"out of memory|outofmemory|memory allocation|failed_allocation|insufficient.*memory", re.I)


def explain_refusal(part: str, heard: Heard, *, flavour: Flavour) -> str:
    """Why the engine of a part does not load, and what to do."""
    words = " ".join(heard.errors)
    for pattern, cause in _CAUSES:
        if re.search(pattern, words):
            return (
                f"the engine of {part} {cause}, got one that {flavour} does not take: {heard.words()}; run "
                "`uperfuse build PLAN` on this machine"
            )
    return f"the engine of {part} does not load with {flavour}: {heard.words()}; {remedy(heard)}"


def remedy(heard: Heard) -> str:
    """What to do about what TensorRT says."""
    if _MEMORY.search(" ".join(heard.errors)):
        return "close other programs that use the GPU, or build the plan for fewer tiles at a time (--batch)"
    return "`uperfuse doctor` says what the GPU and its driver can do"
