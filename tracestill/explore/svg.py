"""Matplotlib's plots as SVG for a page: light and dark, and answering to the pointer."""

from __future__ import annotations

import base64
import html
import io
import json
import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INK = "#123456"  # stands for the page's text colour, put in afterwards
WIDE, HALF = 7.6, 4.0  # inches: a card over the page's width, and one of two side by side

_TOLD = "told:"
_GROUP = re.compile(rf'<g id="{_TOLD}([^"]*)">')
_LONG = re.compile(r"(?<=\d\.\d\d)\d+")
_STYLE = re.compile(r' style="([^"]*)"')


def house_style(ink: str) -> dict[str, Any]:
    """Matplotlib's settings that all plots share, with the colour of text and axes."""
    return {
        "font.size": 9.0,
        "font.family": "sans-serif",
        "text.color": ink,
        "axes.labelcolor": ink,
        "axes.edgecolor": ink,
        "xtick.color": ink,
        "ytick.color": ink,
        "axes.spines.top": False,
        "axes.spines.right": False,
    }


def tell(
    artist: Any, said: str, *, query: str = "", kind: str = "", rows: Sequence[int] = ()
) -> None:
    """Have a part of a plot say something where the pointer is on it. `query` is what it
    sets in the page's traces when it is clicked, `kind` a class for the page's style. Points of a
    scatter have the numbers `rows` of the page's traces, which say what there is to say.
    """
    values = {"said": said, "filter": query, "kind": kind, "rows": list(rows)}
    # In base 64, so that nothing in it is changed on its way into the SVG.
    artist.set_gid(_TOLD + base64.b64encode(json.dumps(values).encode()).decode())


def draw(
    plot: Callable[[Axes], None],
    title: str,
    height: float,
    width: float = WIDE,
) -> str:
    """An SVG of `width` by `height` inches; its ink is the page's own text colour."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    style = {"svg.fonttype": "none", "svg.hashsalt": title, **house_style(INK)}
    with rc_context(style):
        figure = Figure(figsize=(width, height), layout="constrained")
        plot(figure.subplots())
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :].replace(INK, "currentColor")
    svg = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'"[^"]*"', _to_the_hundredth, svg)
    svg = _with_points(svg)
    svg, answering = _GROUP.subn(_answering, svg)
    # Names in one SVG must not hide those of the next: all of them share the page.
    prefix = re.sub(r"\W+", "-", title.lower())
    svg = re.sub(r'\bid="([^"]+)"', rf'id="{prefix}-\1"', svg)
    svg = re.sub(r'(xlink:href="#|url\(#)', rf"\1{prefix}-", svg)
    svg = re.sub(r"\n\s*", "\n", _STYLE.sub(_as_attributes, svg))
    # What is a picture has no parts that a reader could be led to.
    role = "group" if answering else "img"
    return svg.replace("<svg", f'<svg role="{role}" aria-label="{html.escape(title)}"', 1)


def _to_the_hundredth(attribute: re.Match[str]) -> str:
    """An attribute whose coordinates, in pixels, have two decimals: the others take much room."""
    return _LONG.sub("", attribute[0])


def _with_points(svg: str) -> str:
    """The SVG with the trace of each point of a scatter; its points are the uses of one marker."""
    parts = re.split(rf'(<g id="{_TOLD}[^"]*">)', svg)
    for at, part in enumerate(parts):
        found = _GROUP.fullmatch(part)
        rows = _values(found)["rows"] if found else []
        if not rows:
            continue
        numbers = iter(rows)

        def point(use: re.Match[str], numbers: Any = numbers) -> str:
            return f'<use data-row="{next(numbers)}"'

        parts[at] = "<g>"
        parts[at + 1] = re.sub("<use", point, parts[at + 1], count=len(rows))
    return "".join(parts)


def _answering(group: re.Match[str]) -> str:
    values = _values(group)
    tip = html.escape(values["said"])
    attributes = f'data-tip="{tip}"'
    if values["filter"]:
        attributes += f' data-filter="{html.escape(values["filter"])}"'
    if values["kind"]:
        attributes += f' class="{values["kind"]}"'
    # A bin is a part of an axis, which the page's own fields can say too.
    if values["filter"] and values["kind"] != "bin":
        attributes += f' role="button" tabindex="0" aria-label="{tip}"'
    return f"<g {attributes}>"


def _values(group: re.Match[str]) -> dict[str, Any]:
    values: dict[str, Any] = json.loads(base64.b64decode(group[1]))
    return values


def _as_attributes(style: re.Match[str]) -> str:
    """A style as attributes: the page's policy allows no style but its own."""
    said = [one.partition(":") for one in style[1].split(";") if one.strip()]
    pairs = ((name.strip(), value.strip()) for name, _, value in said)
    return "".join(f' {name}="{value}"' for name, value in pairs if name != "font-family")
