"""The study of land cover from folder to page, on two images of water and buildings."""

from __future__ import annotations

import numpy as np
from PIL import Image

from benchmarks.real import land_cover
from benchmarks.real.land_cover import Learning, describe, learn, score
from benchmarks.real.mapping import map_strip
from benchmarks.real.strips import TASK, read_strips
from tests.benchmarks.real.examples import UNDEFINED, write_images
from uperfuse.trainer.network import BackboneSpec

SMALL = {"backbone": BackboneSpec("convnextv2", (8, 8, 16, 16), (1, 1, 1, 1)), "side_px": 32, "batch": 4}


def test_scores_are_of_all_strips_and_leave_ignored_pixels_out(tmp_path):
    write_images(tmp_path)
    strips = read_strips(tmp_path)
    right = [strip.test.labels[TASK] for strip in strips]
    assert score(right, strips).mean_iou == 1
    wrong = [right[0], np.full_like(right[1], UNDEFINED)]
    valid = [int((classes != UNDEFINED).sum()) for classes in right]
    assert score(wrong, strips).accuracy == valid[0] / sum(valid)


def test_the_network_learns_land_from_water(tmp_path):
    write_images(tmp_path)
    strips = read_strips(tmp_path)
    learning = Learning(**SMALL, steps=60, learning_rate=5e-3)
    modalities = describe(learning)
    network = learn([strip.train for strip in strips], learning=learning, modalities=modalities, seed=1)
    maps = [map_strip(network, strip.test, modalities=modalities, side_px=learning.side_px) for strip in strips]
    assert score(maps, strips).accuracy > 0.9


def test_the_command_writes_scores_and_picture(tmp_path, capsys):
    write_images(tmp_path)
    page = tmp_path / "docs" / "real.md"
    command = [str(tmp_path), "--seeds", "1", "--steps", "3", "--pixels", "400", "-o", str(page)]
    land_cover.main(command, learning=Learning(**SMALL))
    text = page.read_text(encoding="utf-8")
    printed = capsys.readouterr().out
    assert "seed 0, network: mIoU" in printed
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    assert all(row in printed for row in rows)
    assert any(row.startswith("| IoU of building") for row in rows)
    assert "2 images of R, G, B, NIR: 80 columns of 48 px to learn from, 40 to be tested on" in text
    with Image.open(page.with_name("real-land-cover.png")) as picture:
        colours = {colour for _, colour in picture.convert("RGB").getcolors(1 << 24)}
    assert {(0xDB, 0x0E, 0x9A), (0x15, 0x53, 0xAE)} <= colours, "building and water"
