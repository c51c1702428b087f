"""Reading a page as a parser does: what is open, what has an id, what refers to what."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from typing import Any
from xml.etree import ElementTree

VOID = {"meta", "link", "br", "img", "input", "hr"}
REFERENCES = ("aria-labelledby", "aria-controls", "aria-describedby", "for")


class Page(HTMLParser):
    """``faults`` lists what is not well formed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.faults: list[str] = []
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.ids: list[str] = []
        self.referred: list[str] = []
        self.raw: dict[str, str] = {}
        self.words = ""
        self.within = ""
        self.feed(text)
        self.close()
        self.faults += [f"<{tag}> is not closed" for tag in self.open]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {key: value or "" for key, value in attrs}
        if len(given) != len(attrs):
            self.faults.append(f"<{tag}> has an attribute twice")
        self.elements.append((tag, given))
        self.ids += [given["id"]] if "id" in given else []
        for key in REFERENCES:
            self.referred += given.get(key, "").split()
        self.referred += [given["href"][1:]] if given.get("href", "").startswith("#") else []
        self.referred += given.get("data-ends", "").split()
        if tag not in VOID:
            self.open.append(tag)
        if tag in ("script", "style"):
            self.within = given.get("id", tag)

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open[-1] != tag:
            self.faults.append(f"</{tag}> closes <{self.open[-1] if self.open else ''}>")
        else:
            self.open.pop()
        self.within = ""

    def handle_data(self, data: str) -> None:
        if self.within:
            self.raw[self.within] = self.raw.get(self.within, "") + data
        else:
            self.words += data

    @property
    def document(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.raw["document"])
        return found

    def headings(self) -> list[int]:
        return [int(tag[1]) for tag, _ in self.elements if re.fullmatch("h[1-6]", tag)]

    def colours(self) -> list[dict[str, str]]:
        """The named colours of the style: light, then dark."""
        light, dark = self.raw["style"].split("prefers-color-scheme: dark", 1)
        first = dict(re.findall(r"--(\w+): (#[0-9a-f]{6})", light))
        return [first, first | dict(re.findall(r"--(\w+): (#[0-9a-f]{6})", dark))]


def contrast(first: str, second: str) -> float:
    """The contrast ratio of two #rrggbb colours, 1 to 21, by WCAG 2's definition."""
    bright, dim = sorted((_luminance(first), _luminance(second)), reverse=True)
    return (bright + 0.05) / (dim + 0.05)


def _luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


_PLACE = re.compile(r"translate\(([-\d.]+) ([-\d.]+)\)( rotate\(-90\))?")
# How wide a letter is for its height, at most of what is usual, and how far it reaches above and below its line.
WIDE, ABOVE, BELOW = 0.6, 0.8, 0.25


def cut_off(svg: str, letters: float = 13) -> list[str]:
    """The words of a chart that stand outside of it, its letters ``letters`` pixels high."""
    root = ElementTree.fromstring(svg)
    _, _, width, height = map(float, root.attrib["viewBox"].split())
    found: list[str] = []

    def visit(element: ElementTree.Element, left: float, top: float) -> None:
        place = _PLACE.fullmatch(element.attrib.get("transform", ""))
        turned = place is not None and place[3] is not None
        if place is not None:
            left, top = left + float(place[1]), top + float(place[2])
        if element.tag.endswith("text"):
            words = element.text or ""
            small = letters * 11 / 13 if "small" in element.attrib.get("class", "") else letters
            long = WIDE * small * len(words)
            x, y = float(element.attrib.get("x", 0)), float(element.attrib.get("y", 0))
            start = {"middle": -long / 2, "end": -long}.get(element.attrib.get("text-anchor", ""), 0.0)
            across, down = (start, start + long), (-ABOVE * small, BELOW * small)
            if turned:
                across, down = down, (-across[1], -across[0])
            box = (left + x + across[0], top + y + down[0], left + x + across[1], top + y + down[1])
            if box[0] < 0 or box[1] < 0 or box[2] > width or box[3] > height:
                found.append(f"{words} at {', '.join(f'{each:.0f}' for each in box)} of {width:g} x {height:g}")
        for child in element:
            visit(child, left, top)

    visit(root, 0.0, 0.0)
    return found
