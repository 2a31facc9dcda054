"""Each study writes its own part of the page."""

from __future__ import annotations

import pytest

from benchmarks.real.document import spread, write_part


def test_a_part_is_written_anew_and_leaves_the_other_alone(tmp_path):
    page = tmp_path / "docs" / "real.md"
    write_part(page, "crops", ["| wheat |"])
    write_part(page, "land cover", ["| water |"])
    write_part(page, "crops", ["| maize |"])
    text = page.read_text(encoding="utf-8")
    assert "| water |" in text
    assert "| maize |" in text
    assert "wheat" not in text
    assert text.index("| water |") < text.index("| maize |")


def test_a_page_without_marks_is_left_as_it_is(tmp_path):
    page = tmp_path / "real.md"
    page.write_text("something else\n", encoding="utf-8")
    with pytest.raises(ValueError, match="put it back"):
        write_part(page, "crops", ["| wheat |"])
    assert page.read_text(encoding="utf-8") == "something else\n"


@pytest.mark.parametrize(("values", "said"), [([0.5], "50.0 %"), ([0.4, 0.6], "50.0 ± 14.1 %")])
def test_a_spread_is_said_in_percent(values, said):
    assert spread(values) == said
