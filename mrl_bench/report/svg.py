"""matplotlib's SVG made fit for an HTML page: no dates, no namespaces, nothing to load, unique ids."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from io import BytesIO

from matplotlib.figure import Figure

from mrl_bench.report.style import css_shades

LAYOUT_FONT = "'DejaVu Sans'"
FONTS = "system-ui, -apple-system, 'Segoe UI', Helvetica, Arial, sans-serif"  # what viewers use instead

_COLOUR = re.compile("#[0-9a-f]{6}")
_VARIABLES = {shade.light: f"var(--{name})" for name, shade in css_shades().items()}


def element(figure: Figure, prefix: str, label: str) -> str:
    """An `<svg>` element for an HTML page, in the page's colours; `prefix` makes its ids unique in the page."""
    root = _tree(figure, prefix, label)
    for node in root.iter():
        if "style" in node.attrib:
            node.attrib["style"] = _COLOUR.sub(_variable, node.attrib["style"])
    return ET.tostring(root, encoding="unicode")


def document(figure: Figure, prefix: str, label: str) -> bytes:
    """A figure as an SVG file."""
    root = _tree(figure, prefix, label)
    root.set("xmlns", "http://www.w3.org/2000/svg")
    return f'<?xml version="1.0" encoding="utf-8"?>\n{ET.tostring(root, encoding="unicode")}\n'.encode()


def _tree(figure: Figure, prefix: str, label: str) -> ET.Element:
    buffer = BytesIO()
    figure.savefig(buffer, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    root = ET.fromstring(buffer.getvalue())
    for node in root.iter():
        node.tag = _local(node.tag)
        node.attrib = {_local(key): _value(_local(key), value, prefix) for key, value in node.attrib.items()}
    for size in ("width", "height"):  # the page or the viewer scales the viewBox
        del root.attrib[size]
    root.attrib |= {"role": "img", "aria-label": label}
    return root


def _local(name: str) -> str:
    """A name without its XML namespace: HTML has none, and SVG 2 accepts href without xlink."""
    return name.rpartition("}")[2]


def _variable(colour: re.Match[str]) -> str:
    return _VARIABLES.get(colour[0], colour[0])


def _value(key: str, value: str, prefix: str) -> str:
    if key == "id":
        return f"{prefix}-{value}"
    if key == "href":
        return f"#{prefix}-{value.removeprefix('#')}"
    if key in ("d", "x", "y", "transform"):
        return re.sub(r"-?\d+\.\d+", lambda match: f"{float(match[0]):.2f}", value)
    return value.replace(LAYOUT_FONT, FONTS).replace("url(#", f"url(#{prefix}-")
