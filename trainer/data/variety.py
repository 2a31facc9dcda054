"""Domains of a simulated data set: the regions of the simulated country, each varied until no two are alike.

Test domains lie further from the regions than those that are trained on, in colour, haze and season.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ...engine.simulation import DOMAINS, Domain
from ...engine.simulation.classes import Crop
from ...engine.simulation.noise import stream

__all__ = ["SimulatedDomain", "draw_domains"]

_YEARS = (2018, 2023)
_SPACING_M = 40_000
_ORCHARDS = (Crop.FRUIT_ORCHARDS, Crop.NUT_ORCHARDS, Crop.OLIVE_GROVES, Crop.OTHER_PERMANENT_CROPS)
_RARE = 0.01
"""Share of fields that each crop has at least where its region does not grow it."""


@dataclass(frozen=True)
class SimulatedDomain:
    """One domain.

    Attributes:
        name: `D032`.
        year: of its images.
        country: how its places look.
    """

    name: str
    year: int
    country: Domain


def draw_domains(seed: int, *, trained: int, unseen: int) -> tuple[list[SimulatedDomain], list[SimulatedDomain]]:
    """Draw domains for training and validation, and others for the test.

    Args:
        seed: chance of all.
        trained: number of the first.
        unseen: number of the second.
    """
    rng = stream(seed, "domains")
    departments = rng.choice(np.arange(1, 96), trained + unseen, replace=False)
    regions = rng.permutation(sorted(DOMAINS)).tolist()
    drawn = []
    for number, department in enumerate(departments.tolist()):
        own = stream(seed, "domain", number)
        region = DOMAINS[regions[number % len(regions)]]
        country = _varied(region, own, far=number >= trained)
        east, north = region.origin_m
        origin_m = (east, north - _SPACING_M * (number // len(regions)))
        drawn.append(
            SimulatedDomain(f"D{department:03d}", int(own.integers(*_YEARS)), replace(country, origin_m=origin_m))
        )
    return drawn[:trained], drawn[trained:]


def _varied(region: Domain, rng: np.random.Generator, *, far: bool) -> Domain:
    def scaled(value: float, spread: float) -> float:
        return value * float(np.exp(rng.normal(0, spread)))

    away = 1.0 if rng.random() < 0.5 else -1.0
    light, warmth = region.soil
    fields = sum(region.crops.values())
    crops: dict[Crop, float] = {
        crop: scaled(max(region.crops.get(crop, 0.0), _RARE * fields), 0.5)
        for crop in Crop
        if crop not in (*_ORCHARDS, Crop.GRASSES, Crop.VINEYARD, Crop.BACKGROUND)
    }
    orchards: dict[Crop, float] = {crop: scaled(max(region.orchards.get(crop, 0.0), 0.1), 0.5) for crop in _ORCHARDS}
    tile, slate, metal = (scaled(weight, 0.5) for weight in region.roofs)
    return replace(
        region,
        altitude_m=scaled(region.altitude_m, 0.15),
        relief_m=scaled(region.relief_m, 0.2),
        field_area_m2=scaled(region.field_area_m2, 0.25),
        hedges=min(scaled(region.hedges, 0.3), 1.0),
        conifers=min(scaled(region.conifers, 0.3), 1.0),
        uses={use: scaled(weight, 0.3) for use, weight in region.uses.items()},
        crops=crops,
        orchards=orchards,
        roofs=(tile, slate, metal),
        soil=(scaled(light, 0.06) * (1 + 0.15 * away * far), warmth + float(rng.normal(0, 0.015)) + 0.03 * away * far),
        season_days=region.season_days + float(rng.normal(0, 4)) + 10.0 * away * far,
        haze=float(np.clip(region.haze + rng.normal(0, 0.08) + 0.2 * away * far, 0, 1)),
    )
