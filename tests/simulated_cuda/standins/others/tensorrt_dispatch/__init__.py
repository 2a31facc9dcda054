"""Stands in for the package `tensorrt_dispatch`; see `tensorrt_standin`."""

from __future__ import annotations

from tensorrt_standin import offer

globals().update(offer(__name__))
