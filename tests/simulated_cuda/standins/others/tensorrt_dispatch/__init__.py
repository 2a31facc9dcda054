"""A simulated package `tensorrt_dispatch`; see `simulated_tensorrt`."""

from __future__ import annotations

from simulated_tensorrt import offer

globals().update(offer(__name__))
