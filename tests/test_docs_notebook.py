"""docs/notebooks: each notebook runs from an empty folder, and is committed without outputs."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest
from documents import DOCS, ROOT
from nbclient import NotebookClient

NOTEBOOKS = sorted((DOCS / "notebooks").glob("*.ipynb"))


def names(path: Path) -> str:
    return path.name


def read(path: Path) -> Any:
    return nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]


def test_there_is_one() -> None:
    assert [path.name for path in NOTEBOOKS] == ["first-student.ipynb"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=names)
def test_it_is_committed_without_outputs_and_as_nbformat_writes_it(path: Path) -> None:
    book = read(path)
    nbformat.validate(book)
    code = [cell for cell in book.cells if cell.cell_type == "code"]
    assert len(code) > 3
    assert all(cell.outputs == [] and cell.execution_count is None for cell in code)
    assert set(book.metadata) == {"kernelspec", "language_info"}
    assert path.read_text(encoding="utf-8") == nbformat.writes(book, indent=1) + "\n"  # type: ignore[no-untyped-call]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=names)
def test_its_links_lead_somewhere(path: Path) -> None:
    words = "".join(cell.source for cell in read(path).cells if cell.cell_type == "markdown")
    targets = [target for target in re.findall(r"\]\(([^)#]+)\)", words) if "://" not in target]
    assert targets
    assert all((path.parent / target).exists() for target in targets)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("path", NOTEBOOKS, ids=names)
def test_it_runs(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("JUPYTER_PATH", os.pathsep.join([str(Path(sys.prefix) / "share" / "jupyter")]))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setenv("JUPYTER_CONFIG_DIR", str(tmp_path / "jupyter"))
    book = read(path)
    done = NotebookClient(book, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}})
    done.execute()
    printed = "".join(
        output.text for cell in book.cells for output in cell.get("outputs", ()) if output.output_type == "stream"
    )
    assert (tmp_path / "runs" / "notebook" / "student.safetensors").is_file()
    for words in ("teacher done", "init done", "copied", "epoch 3 of 3", "after step 4", "uJ an image", "(4, 2, 10)"):
        assert words in printed, printed
