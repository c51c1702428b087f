"""``idsnn eval --report``: a folder with a Markdown page, its plots and the document they show."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from idsnn_cli.checkpoint import write_bytes, write_json, write_text
from idsnn_cli.errors import WriteError
from idsnn_cli.pipeline.run_directory import make_folder
from idsnn_cli.report.drawing import require_matplotlib
from idsnn_cli.report.evaluation_markdown import render_markdown
from idsnn_cli.report.evaluation_plots import draw_evaluation

PAGE, DOCUMENT = "eval.md", "eval.json"


def check_report(folder: Path) -> None:
    """Raise, before anything is measured, what :func:`write_report` would: :class:`MissingPackageError` without
    matplotlib, :class:`WriteError` where ``folder`` is a file.
    """
    require_matplotlib()
    if folder.exists() and not folder.is_dir():
        raise WriteError(f"{folder} is a file, and the report is a folder", "Name another folder with --report DIR.")


def write_report(folder: Path, document: Mapping[str, Any]) -> tuple[Path, ...]:
    """Write an evaluation to ``folder``, made if it is missing; returns the files, which replace older ones."""
    plots = draw_evaluation(document)
    make_folder(folder)
    for name, (_, content) in plots.items():
        write_bytes(folder / name, content)
    write_json(folder / DOCUMENT, dict(document))
    page = render_markdown(document, [(name, words) for name, (words, _) in plots.items()])
    write_text(folder / PAGE, page)
    return (folder / PAGE, folder / DOCUMENT, *(folder / name for name in plots))
