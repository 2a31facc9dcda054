"""Reports: complete or not there, nothing from outside, and the numbers that were counted."""

from __future__ import annotations

import base64
import io
import json
import math
import re
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from uperfuse.engine.errors import RasterError
from uperfuse.engine.flairhub import TASKS
from uperfuse.trainer.description import describe_task
from uperfuse.trainer.evaluation import (
    Evaluation,
    Example,
    GroupScores,
    TaskEvaluation,
    check_report_path,
    report_tables,
    reports,
    to_html,
    to_json,
    to_markdown,
    write_report,
)
from uperfuse.trainer.evaluation.cost import Cost
from uperfuse.trainer.scores import scores_of

HOSTILE = "<script>alert('x|y')</script>"


def evaluation_of(name: str = HOSTILE) -> Evaluation:
    """An evaluation in which everything occurs that a report has a place for, and every name is hostile."""
    rng = np.random.default_rng(4)
    tasks = []
    for task, entries in TASKS.items():
        described = describe_task(task, classes=len(entries))
        classes = tuple(entry.model_copy(update={"name": f"{entry.name} <i>"}) for entry in described.classes)
        counts = rng.integers(0, 900, (len(classes),) * 2) * (rng.random((len(classes),) * 2) < 0.6)
        counts[[entry.ignored for entry in classes]] = 0
        counts[2], counts[:, 2] = 0, 0  # occurs nowhere
        counts[3] = 0  # is mapped, and never true
        truth = rng.integers(0, len(classes), (512, 512)).astype(np.uint8)
        truth[:90, :40] = 255
        scores = scores_of(counts, classes)
        example = Example(
            name, scores, "AERIAL_RGBI", rng.integers(0, 255, (512, 512, 3)).astype(np.uint8), truth, truth[::-1].copy()
        )
        groups = {
            "domain": (GroupScores(name, 3, scores), GroupScores("D4", 2, scores_of(0 * counts, classes))),
            "modalities": (GroupScores("all", 5, scores),),
            "dates": (),
        }
        tasks.append(TaskEvaluation(task, classes, 5, counts, scores, groups, (example,), (example,)))
    cost = Cost(2_290_766, 8.8521)
    where = "cpu, float32"
    return Evaluation(
        name,
        "plan",
        name,
        where,
        cost,
        ("AERIAL_RGBI", "DEM_ELEV"),
        ("DEM_ELEV",),
        "test",
        5,
        None,
        tuple(tasks),
        (name,),
    )


class Page(HTMLParser):
    """Elements of a page: names, attributes, and text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.words: list[tuple[str, str]] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, f"{tag} is closed and is not the last that was opened"

    def handle_data(self, data):
        self.words.append((self.open[-1] if self.open else "", data.strip()))


def test_a_page_needs_nothing_and_runs_nothing():
    text = to_html(evaluation_of(), [evaluation_of("other")])
    page = Page(text)
    assert page.open == []
    tags = Counter(tag for tag, _ in page.tags)
    assert not {"script", "link", "iframe", "object", "form", "i>"} & set(tags)
    assert HOSTILE not in text
    for tag, attributes in page.tags:
        for name, value in attributes.items():
            assert not name.startswith("on")
            if name in ("src", "href", "srcset", "data", "action"):
                assert value.startswith("data:image/"), (tag, name)
    assert not re.search(r"url\(|@import|https?://", text)
    policy = next(
        attributes["content"] for tag, attributes in page.tags if tag == "meta" and "http-equiv" in attributes
    )
    assert policy.startswith("default-src 'none';")
    assert ("h1", HOSTILE) in page.words


def test_a_page_shows_every_count_of_the_matrix():
    evaluation = evaluation_of()
    page = Page(to_html(evaluation))
    titles = [words for tag, words in page.words if tag == "title"][1:]
    expected = []
    for task in evaluation.tasks:
        for true, row in zip(task.classes, task.confusion, strict=True):
            for found, pixels in zip(task.classes, row, strict=True):
                if pixels:
                    share = pixels / row.sum()
                    expected.append(
                        f"true {true.name}, mapped as {found.name}: {pixels:,} pixels, {share:.2%} of the class"
                    )
    assert titles == expected
    cells = [attributes for tag, attributes in page.tags if tag == "rect" and "fill-opacity" in attributes]
    assert len(cells) == len(expected)
    right = [words for attributes, words in zip(cells, titles, strict=True) if attributes["class"] == "right"]
    assert all(re.fullmatch(r"true (.*), mapped as \1: .*", words) for words in right)
    assert len(right) == sum((np.diag(task.confusion) > 0).sum() for task in evaluation.tasks)


def test_pictures_are_the_maps_in_the_colours_of_their_classes():
    evaluation = evaluation_of()
    page = Page(to_html(evaluation))
    images = [attributes for tag, attributes in page.tags if tag == "img"]
    assert len(images) == 3 * 2 * len(evaluation.tasks)
    for start, task in zip((0, 6), evaluation.tasks, strict=True):
        for attributes, labels in zip(
            images[start + 1 : start + 3], (task.best[0].truth, task.best[0].found), strict=True
        ):
            kind, _, content = attributes["src"].partition(",")
            assert kind == "data:image/png;base64"
            shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(content))).convert("RGB"))
            for value, entry in enumerate(task.classes):
                assert (shown[labels == value] == tuple(bytes.fromhex(entry.colour[1:]))).all()
            assert len(np.unique(shown[labels == 255], axis=0)) == 1


def test_json_holds_every_number_and_null_for_none():
    evaluation, other = evaluation_of(), evaluation_of("other")
    read = json.loads(to_json(evaluation, [other]))
    assert (read["model"], read["parameters"], read["gflop"]) == (HOSTILE, 2_290_766, 8.8521)
    assert [each["model"] for each in read["against"]] == ["other"]
    for task, said in zip(evaluation.tasks, read["tasks"], strict=True):
        assert np.array_equal(said["confusion"]["pixels_by_true_then_mapped"], task.confusion)
        again = scores_of(np.array(said["confusion"]["pixels_by_true_then_mapped"]), task.classes)
        assert said["mean_iou"] == again.mean_iou
        assert [entry["iou"] for entry in said["classes"]] == [entry.iou for entry in again.classes]
        assert [entry["recall"] for entry in said["classes"] if entry["pixels"] == 0] == [None]
        assert said["groups"]["domain"][1]["mean_iou"] is None


def test_markdown_has_rows_of_one_length_and_no_markup_of_names():
    evaluation = evaluation_of()
    text = to_markdown(evaluation, [evaluation_of("other")])
    assert "<script>" not in text
    assert not re.search(r"(?<!\\)[<>]", text)
    tables = re.findall(r"(?:^\|.*\n)+", text, flags=re.MULTILINE)
    assert len(tables) == len(report_tables(evaluation, [evaluation])) == 1 + 3 * 2
    for table in tables:
        widths = {len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}
        assert len(widths) == 1
    iou = evaluation.tasks[0].scores.classes[0].iou
    assert f"| building \\<i\\> | {100 * iou:.2f} |" in text


def test_a_comparison_leaves_out_what_a_network_does_not_map():
    both, one = evaluation_of("both"), evaluation_of("one")
    one = replace(one, tasks=one.tasks[1:], cost=Cost(1_000_000, 2.5))
    table = report_tables(both, [one])[0]
    assert table.columns == ("Network", ">both (both)", ">one (one)")
    assert [row[2] for row in table.rows[:5]] == ["cpu, float32", "1.00 M", "2.50", "-", "-"]
    assert table.rows[5][2] == f"{100 * one.tasks[0].scores.mean_iou:.2f}"
    assert not math.isnan(both.tasks[0].scores.mean_iou)
    assert all(len(row) == len(table.columns) for row in table.rows)


def test_a_report_is_complete_or_not_there(tmp_path, monkeypatch):
    path = tmp_path / "report.html"
    write_report(path, "old")
    write_report(path, "new ä")
    assert path.read_text(encoding="utf-8") == "new ä"

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(reports.os, "fsync", fail)
    with pytest.raises(OSError, match="No space left"):
        write_report(path, "newer")
    assert path.read_text(encoding="utf-8") == "new ä"
    assert list(tmp_path.iterdir()) == [path]


def test_places_that_cannot_be_written_are_refused_beforehand(tmp_path):
    with pytest.raises(RasterError, match=r"there is no folder .*missing; make it first"):
        check_report_path(tmp_path / "missing" / "report.html")
    with pytest.raises(RasterError, match="is a folder; give the path of a file"):
        check_report_path(tmp_path)
    check_report_path(tmp_path / "report.html")
