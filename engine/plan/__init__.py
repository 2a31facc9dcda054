"""Plans: one file that holds a network, ready to run.

`manifest` is what it says, `payloads` what it holds for one kind of machine, `container` its bytes, `signature` who
vouches for it.
"""

from .manifest import Manifest
from .plan import Plan, sign_plan, write_plan

__all__ = ["Manifest", "Plan", "sign_plan", "write_plan"]
