"""``idsnn eval --report``: a folder with a Markdown page, its plots and the document they show."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from idsnn_cli.checkpoint import write_json, write_text
from idsnn_cli.errors import WriteError
from idsnn_cli.evaluation.document import read_evaluation
from idsnn_cli.pipeline.run_directory import make_folder
from idsnn_cli.report.evaluation.page import draw_evaluation, render_markdown

PAGE, DOCUMENT = "eval.md", "eval.json"


def check_report(folder: Path) -> None:
    """Raise, before anything is measured, :class:`WriteError` where ``folder`` is a file."""
    if folder.exists() and not folder.is_dir():
        raise WriteError(f"{folder} is a file, and the report is a folder", "Name another folder with --report DIR.")


def write_report(folder: Path, document: Mapping[str, Any]) -> tuple[Path, ...]:
    """Write an evaluation to ``folder``, made if it is missing; returns the files, which replace older ones."""
    evaluation = read_evaluation(document)
    plots = draw_evaluation(evaluation)
    make_folder(folder)
    for name, (_, content) in plots.items():
        write_text(folder / name, content)
    write_json(folder / DOCUMENT, dict(document))
    page = render_markdown(evaluation, [(name, words) for name, (words, _) in plots.items()])
    write_text(folder / PAGE, page)
    return (folder / PAGE, folder / DOCUMENT, *(folder / name for name in plots))
