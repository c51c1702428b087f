"""Plots as PNG bytes, with matplotlib where it is installed; its global state (pyplot) is left alone."""

from __future__ import annotations

import io
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from idsnn_cli.errors import MissingPackageError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's colours, which colour-blind readers tell apart, with a marker each for those who print in grey.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
MARKERS = "osD^vP"
DOTS_PER_INCH = 144


def require_matplotlib() -> None:
    """Raise :class:`MissingPackageError` where plots cannot be drawn."""
    try:
        import matplotlib.figure  # noqa: F401  # only whether it is there
    except ImportError as error:
        raise MissingPackageError(
            f"plots need matplotlib, which cannot be imported: {error}",
            "Install it with `pip install 'idsnn-cli[plots]'`, or leave --report out.",
        ) from None


def new_figure(width: float, height: float, panels: int = 1) -> tuple[Figure, list[Axes]]:
    """An empty figure of ``width`` x ``height`` inches and its panels side by side."""
    require_matplotlib()
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    axes: list[Axes] = list(np.atleast_1d(figure.subplots(1, panels)))
    for each in axes:
        each.grid(True, color="#dddddd", linewidth=0.6)
        each.set_axisbelow(True)
    return figure, axes


def count_along(axes: Axes) -> None:
    """Whole numbers only on the x axis."""
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def png(figure: Figure) -> bytes:
    """The figure's bytes, which do not name the library's version."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    FigureCanvasAgg(figure)
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        # A font that lacks a letter of a class's name draws a box; that is no reason to stop.
        warnings.simplefilter("ignore")
        figure.savefig(buffer, format="png", dpi=DOTS_PER_INCH, metadata={"Software": None})
    return buffer.getvalue()


def plain(words: object) -> str:
    """Words of others, in which a dollar begins no formula."""
    return str(words).encode(errors="backslashreplace").decode().replace("$", r"\$")


def style(number: int) -> dict[str, Any]:
    """Colour and marker of network ``number``."""
    return {"color": COLOURS[number % len(COLOURS)], "marker": MARKERS[number % len(MARKERS)]}
