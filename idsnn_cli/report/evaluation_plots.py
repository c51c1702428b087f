"""The plots of the document of ``idsnn eval``."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from idsnn_cli.report.drawing import COLOURS, count_along, new_figure, plain, png, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Row = Mapping[str, Any]
# Each network with its place in the document, which gives its colour in all plots.
Rows = Sequence[tuple[int, Row]]
# More names than this cannot be read on an axis.
NAMED_CLASSES = 40


def draw_evaluation(document: Mapping[str, Any]) -> dict[str, tuple[str, bytes]]:
    """File name -> what it shows, and the PNG. A plot is there if a network has figures for it.

    Raises :class:`MissingPackageError` without matplotlib.
    """
    rows: Sequence[Row] = document["results"]
    numbered: Rows = list(enumerate(rows))
    drawn: dict[str, tuple[str, bytes]] = {}

    def add(file: str, words: str, figure: Figure) -> None:
        drawn[f"{file}.png"] = (words, png(figure))

    farther = any(row.get("beyond") is not None for row in rows)
    if farther or any(row["timesteps"] > 1 for row in rows):
        words = "Accuracy and calibration error after each time step"
        add("steps", f"{words}; dashed: beyond the network's own" if farther else words, _steps(numbered))
    for key, (file, words, draw) in _PLOTS.items():
        having = [(number, row) for number, row in numbered if row.get(key) is not None]
        if having:
            add(file, words, draw(having))
    for row in rows:
        name = re.sub(r"[^A-Za-z0-9.-]+", "-", row["name"])
        if row.get("activity"):
            add(f"activity-{name}", f"How much each layer of {row['name']} fires", _activity(row))
        if row.get("energy") is not None and row["kind"] == "spiking":
            add(f"energy-{name}", f"Energy of each layer of {row['name']}, and as an ANN", _energy(row))
        if row.get("confusion") is not None:
            words = f"Which classes {row['name']} takes for which"
            add(f"confusion-{name}", words, _confusion(row, document["classes"]))
    return drawn


def _steps(rows: Rows) -> Figure:
    measured = any("calibration" in row for _, row in rows)
    figure, axes = new_figure(9 if measured else 5.5, 3.6, 2 if measured else 1)
    for number, row in rows:
        _over_time(axes[0], number, row, row["top1_by_step"], "top1_by_step")
        if measured and "calibration" in row:
            _over_time(axes[1], number, row, row["calibration"]["ece_by_step"], "ece_by_step")
    for each, words in zip(axes, ("top-1 %", "expected calibration error %"), strict=False):
        each.set(xlabel="time steps", ylabel=words)
        count_along(each)
        each.legend()
    return figure


def _over_time(axes: Axes, number: int, row: Row, values: Sequence[float], key: str) -> None:
    """A line over t, dashed beyond the T of the training; an ANN, which has no time, is a level line."""
    look, name = style(number), plain(row["name"])
    if row["kind"] == "ann":
        axes.axhline(values[-1], color=look["color"], linestyle=":", label=name)
        return
    axes.plot(range(1, len(values) + 1), values, label=name, **look)
    if row.get("beyond") is not None:
        start, later = len(values), row["beyond"][key]
        axes.plot(range(start, len(later) + 1), [values[-1], *later[start:]], linestyle="--", **look)


def _early_exit(rows: Rows) -> Figure:
    figure, (axes,) = new_figure(5.5, 3.6)
    for number, row in rows:
        points = [(each["mean_steps"], each["top1"]) for each in row["early_exit"]] + [(row["timesteps"], row["top1"])]
        axes.plot(*zip(*points, strict=True), label=plain(row["name"]), **style(number))
        if len(rows) == 1:
            named = 0.0
            for each in row["early_exit"]:
                at = (each["mean_steps"], each["top1"])
                if at[0] - named < 0.03 * row["timesteps"]:
                    continue  # its words would cover the last ones
                named = at[0]
                axes.annotate(f"{each['threshold']:g}", at, xytext=(3, -10), textcoords="offset points", fontsize=7)
            # Room for the words below the lowest point.
            axes.margins(y=0.1)
    axes.set(xlabel="mean time steps", ylabel="top-1 %")
    axes.legend()
    return figure


def _reliability(rows: Rows) -> Figure:
    figure, (axes,) = new_figure(4.4, 4.2)
    axes.plot([0, 100], [0, 100], color="#888888", linestyle=":", label="perfect")
    for number, row in rows:
        bins = [each for each in row["calibration"]["reliability"] if each["images"]]
        points = [(each["confidence"], each["accuracy"]) for each in bins]
        axes.plot(*zip(*points, strict=True), label=plain(row["name"]), **style(number))
    axes.set(xlabel="mean confidence %", ylabel="accuracy %", xlim=(-2, 102), ylim=(-2, 102))
    axes.legend()
    return figure


def _robustness(rows: Rows) -> Figure:
    first = rows[0][1]["robustness"]
    kinds = sorted(first)
    figure, axes = new_figure(10, 3.4, len(kinds))
    for each, kind in zip(axes, kinds, strict=True):
        for number, row in rows:
            # 0 is the image as it is.
            values = [row["top1"], *(point["top1"] for point in row["robustness"][kind])]
            each.plot(range(len(values)), values, label=plain(row["name"]), **style(number))
        strengths = [f"{point['strength']:g}" for point in first[kind]]
        each.set(xlabel=kind, ylabel="top-1 %")
        each.set_xticks(range(len(strengths) + 1), ["none", *strengths])
    # One scale, so that what hurts little looks so.
    low, high = (choose(each.get_ylim()[side] for each in axes) for side, choose in ((0, min), (1, max)))
    for each in axes:
        each.set_ylim(low, high)
    axes[0].legend()
    return figure


def _activity(row: Row) -> Figure:
    layers = row["activity"]
    figure, axes = new_figure(9, 1.4 + 0.2 * len(layers), 3)
    places = np.arange(len(layers))
    for each, (key, words) in zip(
        axes,
        {"firing_rate": "firing rate %", "silent": "silent neurons %", "saturated": "saturated %"}.items(),
        strict=True,
    ):
        each.barh(places, [100 * layer[key] for layer in layers], color=COLOURS[0])
        _name_layers(each, places, [layer["layer"] for layer in layers] if key == "firing_rate" else [])
        each.set_xlabel(words)
    return figure


def _energy(row: Row) -> Figure:
    layers = row["energy"]["layers"]
    figure, (axes,) = new_figure(6.5, 1.4 + 0.28 * len(layers))
    places = np.arange(len(layers))
    axes.barh(places - 0.2, [layer["energy_uj"] for layer in layers], 0.4, color=COLOURS[0], label="spiking")
    axes.barh(places + 0.2, [layer["ann_energy_uj"] for layer in layers], 0.4, color=COLOURS[1], label="as an ANN")
    _name_layers(axes, places, [layer["layer"] for layer in layers])
    axes.set_xlabel("microjoules for one image, an estimate")
    axes.legend()
    return figure


def _name_layers(axes: Axes, places: np.ndarray, names: Sequence[str]) -> None:
    axes.set_yticks(places, names or [""] * len(places), fontsize=7)
    axes.invert_yaxis()


def _confusion(row: Row, classes: Sequence[str]) -> Figure:
    counts = np.array(row["confusion"], dtype=float)
    shares = 100 * counts / np.maximum(counts.sum(1, keepdims=True), 1)
    named = len(classes) <= NAMED_CLASSES
    size = 2.2 + (0.3 * len(classes) if named else 5)
    figure, (axes,) = new_figure(size + 0.8, size)
    axes.grid(False)
    figure.colorbar(axes.imshow(shares, cmap="Blues", vmin=0, vmax=100), label="% of the class", shrink=0.8)
    axes.set(xlabel="answer", ylabel="class")
    if named:
        names = [plain(name) for name in classes]
        axes.set_xticks(range(len(names)), names, rotation=90, fontsize=7)
        axes.set_yticks(range(len(names)), names, fontsize=7)
    return figure


_PLOTS: dict[str, tuple[str, str, Callable[[Rows], Figure]]] = {
    "early_exit": ("early-exit", "Accuracy against mean time steps, by confidence", _early_exit),
    "calibration": ("reliability", "Accuracy against confidence", _reliability),
    "robustness": ("robustness", "Accuracy on worse images", _robustness),
}
