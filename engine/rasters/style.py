"""Colours and names of classes, as GDAL and QGIS read them."""

from __future__ import annotations

import xml.etree.ElementTree as ET  # only written, never parsed

from ..plan.network import Task

__all__ = ["class_tags", "colour_table", "gdal_sidecar", "qgis_style"]

# GDAL's numbers for column types and meanings of an attribute table.
_INTEGER, _TEXT = "0", "2"
_COLUMNS = (
    ("Value", _INTEGER, "5"),
    ("Class", _TEXT, "2"),
    ("Red", _INTEGER, "6"),
    ("Green", _INTEGER, "7"),
    ("Blue", _INTEGER, "8"),
)


def colour_table(task: Task) -> dict[int, tuple[int, int, int, int]]:
    """Label -> red, green, blue, alpha; what is not a class is transparent black."""
    table = dict.fromkeys(range(256), (0, 0, 0, 0))
    table.update({value: (*_rgb(entry.colour), 255) for value, entry in enumerate(task.classes)})
    return table


def class_tags(task: Task) -> dict[str, str]:
    """Metadata items that name each class within the raster itself."""
    return {f"CLASS_{value}": entry.name for value, entry in enumerate(task.classes)}


def gdal_sidecar(task: Task) -> bytes:
    """Content of the `.aux.xml` beside a map of labels: category names and an attribute table."""
    root = ET.Element("PAMDataset")
    band = ET.SubElement(root, "PAMRasterBand", band="1")
    names = ET.SubElement(band, "CategoryNames")
    for entry in task.classes:
        ET.SubElement(names, "Category").text = entry.name
    table = ET.SubElement(band, "GDALRasterAttributeTable", tableType="thematic")
    for index, (name, kind, usage) in enumerate(_COLUMNS):
        column = ET.SubElement(table, "FieldDefn", index=str(index))
        for tag, text in (("Name", name), ("Type", kind), ("Usage", usage)):
            ET.SubElement(column, tag).text = text
    for value, entry in enumerate(task.classes):
        row = ET.SubElement(table, "Row", index=str(value))
        for cell in (value, entry.name, *_rgb(entry.colour)):
            ET.SubElement(row, "F").text = str(cell)
    return _written(root)


def qgis_style(task: Task) -> bytes:
    """Content of the `.qml` that QGIS applies when it opens the map beside it."""
    root = ET.Element("qgis", version="3.22", styleCategories="Symbology")
    pipe = ET.SubElement(root, "pipe")
    renderer = ET.SubElement(
        pipe, "rasterrenderer", type="paletted", band="1", opacity="1", alphaBand="-1", nodataColor=""
    )
    palette = ET.SubElement(renderer, "colorPalette")
    for value, entry in enumerate(task.classes):
        ET.SubElement(palette, "paletteEntry", value=str(value), color=entry.colour, alpha="255", label=entry.name)
    return _written(root)


def _rgb(colour: str) -> tuple[int, int, int]:
    red, green, blue = bytes.fromhex(colour.removeprefix("#"))
    return red, green, blue


def _written(root: ET.Element) -> bytes:
    ET.indent(root)
    # GDAL takes the first element of a sidecar for its root, so there is no declaration; UTF-8 needs none.
    return ET.tostring(root, encoding="unicode").encode()
