"""The two pictures of the documentation, drawn from what is there: ``python tests/pictures.py`` writes both.

``docs/pictures/house.svg`` are the floors and the imports between them, as tests/house.py reads them from the code.
``docs/pictures/layer-map.svg`` is what ``idsnn inspect`` says of a Spiking ResNet-18 that was mapped from a ResNet-34
in torchvision's names. ``tests/test_docs_pictures.py`` compares both with what is drawn anew.
"""

from __future__ import annotations

import ast
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from html import escape
from pathlib import Path
from typing import Any

from house import FILES, FLOORS, PACKAGE, TREES, own_imports, part_of

PICTURES = Path(__file__).parents[1] / "docs" / "pictures"
HOUSE = PICTURES / "house.svg"
LAYER_MAP = PICTURES / "layer-map.svg"

COMMANDS = (
    "init --from resnet34.pth --normalise imagenet --arch spiking-resnet18 --num-classes 100 -o init.safetensors",
    "inspect init.safetensors --json",
)

# Okabe and Ito's colours, which colour-blind readers tell apart.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#B07C00", "#56B4E9")
INK, GREY, PALE = "#222222", "#767676", "#f2f4f7"


def direct_imports() -> set[tuple[str, str]]:
    """Which part imports which, without those that a way over other parts implies already."""
    below: dict[str, set[str]] = {part: set() for floor in FLOORS for part in floor}
    for module in FILES:
        mine = part_of(module)
        if mine:
            below[mine] |= {part_of(each) for each in own_imports(module)} - {mine, ""}

    def reached(start: str, without: str) -> set[str]:
        found, pending = set[str](), [each for each in below[start] if each != without]
        while pending:
            part = pending.pop()
            if part not in found:
                found.add(part)
                pending += below[part]
        return found

    return {(mine, theirs) for mine in below for theirs in below[mine] if theirs not in reached(mine, theirs)}


def job(part: str) -> str:
    """The first sentence of the part's docstring, at the most 88 letters of it."""
    words = " ".join((ast.get_docstring(TREES[f"{PACKAGE}.{part}"]) or "").split()).replace("``", "")
    sentence = words.partition(". ")[0].rstrip(".")
    while len(sentence) > 88:
        sentence = sentence[: max(sentence.rfind(mark) for mark in ("; ", ": ", ", "))]
    return sentence


def draw_house() -> str:
    """A line for each part, the floors as bands, and an arc at the left for each import."""
    line, gap, left, width = 24, 6, 230, 1010
    place: dict[str, float] = {}
    drawn: list[str] = []
    y = 12.0
    for number in reversed(range(len(FLOORS))):
        parts = FLOORS[number]
        drawn.append(_box(left, y, width - left - 12, line * len(parts), PALE))
        for part in parts:
            place[part] = y + line / 2
            drawn.append(_text(left + 10, y + 16, part, bold=True))
            drawn.append(_text(left + 200, y + 16, job(part), GREY))
            y += line
        y += gap
    order = list(place)
    colour = {part: COLOURS[number % len(COLOURS)] for number, part in enumerate(order)}
    for mine, theirs in sorted(direct_imports(), key=lambda each: (order.index(each[0]), order.index(each[1]))):
        # The arc leaves a little below the middle of its line and comes in a little above it.
        start, end = place[mine] + 4, place[theirs] - 3
        out = left - 20 - (left - 40) * ((end - start) / (place[order[-1]] - place[order[0]])) ** 0.6
        curve = f"M{left:g} {start:.1f} C{out:.1f} {start:.1f} {out:.1f} {end:.1f} {left - 5:g} {end:.1f}"
        tip = f"M{left:g} {end:.1f} l-7 -3.5 v7 z"
        drawn.append(f'<path d="{curve}" fill="none" stroke="{colour[mine]}" stroke-width="1.4" opacity="0.85"/>')
        drawn.append(f'<path d="{tip}" fill="{colour[mine]}"/>')
    words = "The parts of the package, from the command line down to the errors, and which imports which"
    return _svg(width, y + 6, words, drawn)


def draw_layer_map(document: Mapping[str, Any]) -> str:
    """The source's blocks at the left, the student's at the right, and a line from each block to what takes it.

    ``document`` is what ``idsnn inspect --json`` printed of a checkpoint with a layer map.
    """
    mapping = document["mapping"]
    source = mapping["source_blocks"]
    student = [block for block in mapping["blocks"] if sum(block["values"].values())]
    line, top, width, box = 26, 66, 960, 340
    height = top + line * max(len(source), len(student)) + 34
    left, right = 12, width - 12 - box
    lower = line * (len(source) - len(student)) / 2  # the shorter column stands in the middle
    place = {block["name"]: top + line * row + line / 2 for row, block in enumerate(source)}
    drawn = [_text(left, 24, "Teacher: " + _short(mapping["source"]), bold=True)]
    drawn.append(_text(left, 44, "how much of each block the student uses", GREY))
    drawn.append(_text(right, 24, "Student: " + _short(mapping["target"]), bold=True))
    drawn.append(_text(right, 44, "how each block is made; a line leads to what it takes", GREY))
    for block in source:
        share = block["share"]["share"]
        drawn += _row(
            left, place[block["name"]], box, line, block["name"], f"{share:.0%}" if share else "not used", share
        )
    for row, block in enumerate(student):
        y = top + lower + line * row + line / 2
        values = block["values"]
        taken = (values["copied"] + values["interpolated"]) / sum(values.values())
        takes = block["takes"]
        words = "random" if takes is None else ", ".join(sorted({part["words"] for part in block["parts"]}))
        drawn += _row(right, y, box, line, block["name"], words, taken)
        if takes in place:
            colour = COLOURS[int(takes.split(".")[1]) % len(COLOURS) if takes.startswith("stages") else 4]
            start, end, middle = left + box, right, (left + box + right) / 2
            curve = f"M{start:g} {place[takes]:g} C{middle:g} {place[takes]:g} {middle:g} {y:g} {end:g} {y:g}"
            drawn.append(f'<path d="{curve}" fill="none" stroke="{colour}" stroke-width="2"/>')
    share, values = mapping["share"], mapping["values"]
    counts = ", ".join(f"{count:,} {action}" for action, count in values.items() if count)
    words = f"used: {share['used']:,} of the teacher's {share['of']:,} trained values; the student's: {counts}"
    drawn.append(_text(left, height - 10, words, GREY))
    return _svg(width, height, "The layer map that idsnn inspect shows of a student and its teacher", drawn)


def save_source(folder: Path) -> None:
    """A public kind of ResNet-34. The layer map is of shapes and rules, so random weights do."""
    import torch
    from torchvision.models import resnet34

    torch.save(resnet34(weights=None).state_dict(), folder / "resnet34.pth")


def inspected(folder: Path) -> dict[str, Any]:
    """What ``idsnn inspect --json`` prints of the student that ``idsnn init --from`` makes of it."""
    save_source(folder)
    for words in COMMANDS:
        program = [sys.executable, "-m", PACKAGE, *words.split()]
        done = subprocess.run(program, cwd=folder, capture_output=True, text=True, check=True)
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def _short(description: str) -> str:
    """``ResNet-34, basic blocks 3-4-6-3, widths ...`` -> the name and the blocks."""
    return ", ".join(description.split(", ")[:2])


def _row(x: float, middle: float, width: float, height: float, name: str, words: str, full: float) -> Iterable[str]:
    y = middle - height / 2 + 2
    yield _box(x, y, width, height - 4, PALE)
    yield _box(x, y, width * full, height - 4, "#dbe9f4")
    yield _text(x + 8, middle + 4, name)
    yield _text(x + width - 8, middle + 4, words, GREY, anchor="end")


def _box(x: float, y: float, width: float, height: float, colour: str) -> str:
    return f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="4" fill="{colour}"/>'


def _text(x: float, y: float, words: str, colour: str = INK, *, bold: bool = False, anchor: str = "start") -> str:
    weight = ' font-weight="600"' if bold else ""
    return f'<text x="{x:g}" y="{y:g}" fill="{colour}" text-anchor="{anchor}"{weight}>{escape(words)}</text>'


def _svg(width: float, height: float, words: str, drawn: Iterable[str]) -> str:
    """A picture that carries its own white ground, for pages of any colour."""
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" width="{width:g}" role="img"'
    font = 'font-family="system-ui, sans-serif" font-size="12.5"'
    ground = f'<rect width="{width:g}" height="{height:g}" rx="6" fill="#ffffff"/>'
    return "\n".join([f"{head} {font}>", f"<title>{escape(words)}</title>", ground, *drawn, "</svg>", ""])


def main() -> None:
    """Draw both anew."""
    PICTURES.mkdir(exist_ok=True)
    HOUSE.write_text(draw_house(), encoding="utf-8")
    with tempfile.TemporaryDirectory() as folder:
        LAYER_MAP.write_text(draw_layer_map(inspected(Path(folder))), encoding="utf-8")


if __name__ == "__main__":
    main()
