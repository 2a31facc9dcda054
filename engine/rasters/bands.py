"""Which bands of a file are the plan's bands: from its band names, from the user, or from the sensor's usual order.

A choice is always given with its reason, and where there is no good reason it is refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..errors import RasterError
from ..flairhub import MODALITIES
from ..plan.network import Modality

__all__ = ["BandChoice", "BandLabel", "band_names", "choose_bands"]

ALPHA = "alpha"

_WORDS = {
    "R": ("r", "red", "rouge"),
    "G": ("g", "green", "vert"),
    "B": ("b", "blue", "bleu"),
    "NIR": ("nir", "ir", "pir", "infrared", "nearinfrared", "procheinfrarouge"),
    "PAN": ("pan", "panchromatic"),
    "DSM": ("dsm", "mns"),
    "DTM": ("dtm", "mnt"),
    **{f"B{number:02d}": (f"b{number}", f"b{number:02d}") for number in range(1, 13)},
}
# Words that alone name a band, whatever stands beside them; "red" beside "edge" is another band.
_DISTINCT = re.compile(r"nir|pir|pan|dsm|dtm|mns|mnt|vv|vh|b\d+a?")
_NEUTRAL = re.compile(r"band|bande|channel|reflectance|dn|\w*\d\w*")


@dataclass(frozen=True)
class BandLabel:
    """What a file says of one band: its description and its colour interpretation (GDAL's word)."""

    description: str | None
    colour: str


@dataclass(frozen=True)
class BandChoice:
    """Bands of one acquisition.

    Attributes:
        numbers: 1-based band numbers of the plan's bands, in the plan's order.
        alpha: 1-based number of a band that says which pixels are void, or None.
        reason: why these, for the user.
    """

    numbers: tuple[int, ...]
    alpha: int | None
    reason: str


def choose_bands(
    modality: Modality,
    *,
    labels: Sequence[BandLabel],
    given: tuple[str, ...] | tuple[int, ...] | None,
    file: str,
    is_transparency: Callable[[int], bool | None],
) -> BandChoice:
    """Find the plan's bands in one acquisition of a file.

    Args:
        modality: what the plan takes.
        labels: what the file says of its bands.
        given: the user's word, see `Source.bands`.
        file: name of the file, for messages.
        is_transparency: tells from the values of band n whether a band labelled alpha is one: fully transparent and
            fully opaque pixels only. FLAIR-HUB's own files label their infrared so. None where that is not clear.

    Raises:
        RasterError: a band is missing or the choice is ambiguous; names both lists.
    """
    if given is not None and isinstance(given[0], int):
        return _by_number(modality, labels, [int(number) for number in given], file, is_transparency)
    if given is not None:
        return _by_given_names(modality, labels, [str(name) for name in given], file)
    names = band_names(modality, labels)
    for index, name in enumerate(names):
        if name == ALPHA and not _is_alpha(modality, index + 1, file, is_transparency):
            names[index] = None
    return _by_file(modality, names, file)


def band_names(modality: Modality, labels: Sequence[BandLabel]) -> list[str | None]:
    """Names that a file gives its bands, in the plan's words; None where it gives none or one that is not known."""
    words = _vocabulary(modality)
    names = []
    for label in labels:
        name = _in_words(label.description, words) or words.get(label.colour)
        names.append(ALPHA if name is None and label.colour == ALPHA else name)
    return names


def _vocabulary(modality: Modality) -> dict[str, str]:
    bands = {*modality.bands, *_usual_order(modality)}
    words = {word: band for band in sorted(bands) for word in _WORDS.get(band, ())}
    return {**words, **{_joined(band): band for band in bands}}


def _usual_order(modality: Modality) -> tuple[str, ...]:
    facts = MODALITIES.get(modality.name)
    return facts.bands if facts is not None else modality.bands


def _in_words(description: str | None, words: dict[str, str]) -> str | None:
    tokens = re.findall(r"[a-z0-9]+", (description or "").lower())
    if "".join(tokens) in words:
        return words["".join(tokens)]
    found = [token for token in tokens if token in words]
    if len(found) != 1:
        return None
    others = [token for token in tokens if token != found[0]]
    sure = _DISTINCT.fullmatch(found[0]) or all(_NEUTRAL.fullmatch(token) for token in others)
    return words[found[0]] if sure else None


def _joined(text: str) -> str:
    return "".join(re.findall(r"[a-z0-9]+", text.lower()))


def _is_alpha(modality: Modality, number: int, file: str, is_transparency: Callable[[int], bool | None]) -> bool:
    verdict = is_transparency(number)
    if verdict is None:
        raise RasterError(
            f"band {number} of {file} is labelled alpha, but its values are neither a transparency nor clearly an "
            f"image; say what the bands are with --bands {modality.name}=R,G,B,NIR (or ...,alpha)"
        )
    return verdict


def _by_number(
    modality: Modality,
    labels: Sequence[BandLabel],
    numbers: list[int],
    file: str,
    is_transparency: Callable[[int], bool | None],
) -> BandChoice:
    if len(numbers) != len(modality.bands):
        raise RasterError(
            f"{len(numbers)} band numbers are given for {modality.name}, the plan takes {len(modality.bands)} bands: "
            f"{', '.join(modality.bands)}; give one number for each"
        )
    if max(numbers) > len(labels):
        raise RasterError(
            f"band {max(numbers)} is given for {modality.name}, {file} has {len(labels)}; give numbers from 1 to "
            f"{len(labels)}"
        )
    alpha = [
        number
        for number, label in enumerate(labels, start=1)
        if label.colour == ALPHA and number not in numbers and _is_alpha(modality, number, file, is_transparency)
    ]
    return BandChoice(tuple(numbers), alpha[0] if alpha else None, "as given")


def _by_given_names(modality: Modality, labels: Sequence[BandLabel], given: list[str], file: str) -> BandChoice:
    if len(given) != len(labels):
        raise RasterError(
            f"{len(given)} bands are given for {modality.name} ({', '.join(given)}), {file} has {len(labels)}; "
            "name every band of the file in its order"
        )
    words = _vocabulary(modality)
    names = [words.get(_joined(name), name) for name in given]
    missing = [band for band in modality.bands if band not in names]
    if missing:
        raise RasterError(
            f"the bands given for {modality.name} are {', '.join(given)}, the plan takes {', '.join(modality.bands)}; "
            f"{', '.join(missing)} is missing"
        )
    lowered = [name.lower() for name in names]
    alpha = lowered.index(ALPHA) + 1 if ALPHA in lowered else None
    return BandChoice(tuple(names.index(band) + 1 for band in modality.bands), alpha, "as given")


def _by_file(modality: Modality, names: list[str | None], file: str) -> BandChoice:
    alpha = names.index(ALPHA) + 1 if ALPHA in names else None
    if all(names.count(band) == 1 for band in modality.bands):
        numbers = tuple(names.index(band) + 1 for band in modality.bands)
        return BandChoice(numbers, alpha, "by the names in the file")
    images = [index for index, name in enumerate(names) if name != ALPHA]
    if len(modality.bands) == 1 and len(images) == 1 and names[images[0]] is None:
        return BandChoice((images[0] + 1,), alpha, "its only band, without a name")
    usual = _usual_order(modality)
    agrees = len(images) == len(usual) and all(
        names[index] in (None, band) for index, band in zip(images, usual, strict=True)
    )
    if agrees and set(modality.bands) <= set(usual):
        numbers = tuple(images[usual.index(band)] + 1 for band in modality.bands)
        what = "some bands have no name" if any(names) else "its bands have no names"
        return BandChoice(numbers, alpha, f"{what}; taken in the sensor's usual order {', '.join(usual)}")
    raise RasterError(
        f"{file} holds bands {', '.join(name or '(no name)' for name in names)}; {modality.name} of the plan takes "
        f"{', '.join(modality.bands)}; {_what_is_wrong(modality, names)}, so say what the file's bands are with "
        f"--bands {modality.name}=NAME,NAME,... in the file's order, or give another file"
    )


def _what_is_wrong(modality: Modality, names: list[str | None]) -> str:
    missing = [band for band in modality.bands if band not in names]
    if not missing:
        twice = [band for band in modality.bands if names.count(band) > 1]
        return f"{', '.join(twice)} occurs more than once"
    return f"{', '.join(missing)} is missing" if None not in names else f"{', '.join(missing)} is not among the names"
