"""Which bands of a file are the plan's: named, given, in the usual order, or refused."""

from __future__ import annotations

import pytest

from uperfuse.engine.errors import RasterError
from uperfuse.engine.plan.network import Modality
from uperfuse.engine.rasters.bands import BandChoice, BandLabel, choose_bands

from .formula import make_modality

COLOURS = ("red", "green", "blue", "alpha")
NIR_R_G = make_modality("AERIAL_RGBI", bands=("NIR", "R", "G"))
R_G_B = make_modality("AERIAL_RGBI", bands=("R", "G", "B"))
RGB_AND_NIR = make_modality("AERIAL_RGBI", bands=("R", "G", "B", "NIR"))
DEM = make_modality("DEM_ELEV")
PAN = make_modality("AERIAL-RLT_PAN")
S2 = make_modality("SENTINEL2_TS")
S1 = make_modality("SENTINEL1-ASC_TS")
S2_WORDS = ("B2", "B3", "B4", "B5", "B6", "B7", "B8", "B8A", "B11", "B12")


def choose(
    modality: Modality,
    *,
    names: tuple[str | None, ...] = (),
    colours: tuple[str, ...] = (),
    given: tuple[str, ...] | tuple[int, ...] | None = None,
    transparency: bool | None = True,
) -> BandChoice:
    count = max(len(names), len(colours))
    names, colours = names or (None,) * count, colours or ("gray",) + ("undefined",) * (count - 1)
    labels = [BandLabel(*label) for label in zip(names, colours, strict=True)]
    return choose_bands(
        modality, labels=labels, given=given, file="ortho.tif", is_transparency=lambda number: transparency
    )


@pytest.mark.parametrize(
    ("modality", "names", "numbers"),
    [
        (NIR_R_G, ("NIR", "G", "B", "R"), (1, 4, 2)),
        (NIR_R_G, ("Near Infrared", "Green", "Red"), (1, 3, 2)),
        (NIR_R_G, ("rouge", "vert", "bleu", "PIR"), (4, 1, 2)),
        (NIR_R_G, ("Band 1: red", "Band 2: green", "Band 3: blue", "Band 4: nir", "height"), (4, 1, 2)),
        (R_G_B, ("red edge 705", "red 665nm", "green", "blue"), (2, 3, 4)),
        (DEM, ("MNT", "MNS"), (2, 1)),
        (DEM, ("slope", "elevation DSM", "elevation DTM"), (2, 3)),
        (S1, ("Gamma0_VH", "Gamma0_VV"), (2, 1)),
        (S2, S2_WORDS[::-1], tuple(range(10, 0, -1))),
        (S2, tuple(f"{name}_20210114" for name in S2_WORDS), tuple(range(1, 11))),
    ],
)
def test_by_the_files_own_names(modality: Modality, names: tuple[str, ...], numbers: tuple[int, ...]) -> None:
    choice = choose(modality, names=names)
    assert (choice.numbers, choice.alpha) == (numbers, None)
    assert "names in the file" in choice.reason


def test_by_colours() -> None:
    assert choose(NIR_R_G, colours=("nir", "green", "blue", "red")).numbers == (1, 4, 2)
    assert choose(R_G_B, colours=("blue", "green", "red")).numbers == (3, 2, 1)


def test_descriptions_outweigh_colours() -> None:
    """An infrared-red-green composite is stored as RGB so that viewers show it."""
    assert choose(NIR_R_G, names=("NIR", "R", "G"), colours=("red", "green", "blue")).numbers == (1, 2, 3)


@pytest.mark.parametrize(
    ("modality", "count", "numbers"),
    [(NIR_R_G, 4, (4, 1, 2)), (RGB_AND_NIR, 4, (1, 2, 3, 4)), (DEM, 2, (1, 2)), (S1, 2, (1, 2))],
)
def test_usual_order_where_nothing_is_named(modality: Modality, count: int, numbers: tuple[int, ...]) -> None:
    choice = choose(modality, colours=("gray", "undefined", "undefined", "undefined")[:count])
    assert choice.numbers == numbers
    assert "usual order" in choice.reason


def test_the_only_band_needs_no_name() -> None:
    only = make_modality("DEM_ELEV", bands=("DSM",))
    assert choose(only, colours=("gray",)).numbers == (1,)
    assert choose(only, colours=("gray", "alpha")) == BandChoice((1,), 2, "its only band, without a name")
    with pytest.raises(RasterError, match="holds bands DTM; DEM_ELEV of the plan takes DSM"):
        choose(only, names=("MNT",))


def test_infrared_that_is_labelled_alpha() -> None:
    """Four uint8 bands become red, green, blue, alpha with GDAL unless told otherwise; so are FLAIR-HUB's own files."""
    choice = choose(NIR_R_G, colours=COLOURS, transparency=False)
    assert (choice.numbers, choice.alpha) == ((4, 1, 2), None)
    assert choose(R_G_B, colours=COLOURS, transparency=False).alpha is None
    assert choose(R_G_B, colours=COLOURS, transparency=True) == BandChoice((1, 2, 3), 4, "by the names in the file")
    with pytest.raises(RasterError, match="NIR is missing"):
        choose(NIR_R_G, colours=COLOURS, transparency=True)
    with pytest.raises(RasterError, match=r"band 4 of ortho.tif is labelled alpha.*--bands AERIAL_RGBI="):
        choose(R_G_B, colours=COLOURS, transparency=None)


def test_alpha_beside_unnamed_bands() -> None:
    choice = choose(NIR_R_G, colours=("gray", "undefined", "undefined", "undefined", "alpha"))
    assert (choice.numbers, choice.alpha) == ((4, 1, 2), 5)


def test_given_names_outweigh_the_file() -> None:
    choice = choose(NIR_R_G, colours=COLOURS, given=("nir", "green", "blue", "red"))
    assert (choice.numbers, choice.alpha, choice.reason) == ((1, 4, 2), None, "as given")
    choice = choose(NIR_R_G, colours=COLOURS, given=("NIR", "R", "G", "alpha"))
    assert (choice.numbers, choice.alpha) == ((1, 2, 3), 4)
    assert choose(NIR_R_G, names=("R", "G", "B", "NIR"), given=("height", "NIR", "R", "G")).numbers == (2, 3, 4)


def test_given_numbers_are_the_plans_bands() -> None:
    assert choose(NIR_R_G, colours=COLOURS, given=(4, 1, 2), transparency=False).numbers == (4, 1, 2)
    assert choose(NIR_R_G, colours=COLOURS, given=(4, 1, 2), transparency=True).alpha is None
    assert choose(R_G_B, colours=COLOURS, given=(3, 2, 1), transparency=True).alpha == 4


@pytest.mark.parametrize(
    ("modality", "settings", "words"),
    [
        (
            NIR_R_G,
            {"colours": COLOURS[:3]},
            "holds bands R, G, B; AERIAL_RGBI of the plan takes NIR, R, G; NIR is missing",
        ),
        (NIR_R_G, {"colours": ("undefined",) * 3}, "NIR, R, G is not among the names"),
        (NIR_R_G, {"colours": ("undefined",) * 5}, "--bands AERIAL_RGBI=NAME"),
        (R_G_B, {"names": ("red", "red", "green", "blue")}, "R occurs more than once"),
        (NIR_R_G, {"names": ("NIR", None, None, None)}, "(no name)"),
        (S2, {"colours": ("undefined",) * 12}, "SENTINEL2_TS"),
        (NIR_R_G, {"colours": COLOURS, "given": ("NIR", "R", "G")}, "3 bands are given for AERIAL_RGBI (NIR, R, G)"),
        (NIR_R_G, {"colours": COLOURS[:3], "given": ("R", "G", "B")}, "the plan takes NIR, R, G; NIR is missing"),
        (NIR_R_G, {"colours": COLOURS, "given": (1, 2)}, "2 band numbers are given for AERIAL_RGBI, the plan takes 3"),
        (NIR_R_G, {"colours": COLOURS, "given": (5, 1, 2)}, "band 5 is given for AERIAL_RGBI, ortho.tif has 4"),
    ],
)
def test_what_is_ambiguous_is_refused(modality: Modality, settings: dict[str, tuple[str, ...]], words: str) -> None:
    with pytest.raises(RasterError) as caught:
        choose(modality, **settings)
    assert words in str(caught.value)
