"""A grid's index from elsewhere names nothing outside its own folder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from idsnn_cli.errors import CheckpointError
from idsnn_cli.pipeline.collecting import gather
from idsnn_cli.pipeline.grid import INDEX, read_index


def index(folder: Path, *names: str) -> Path:
    folder.mkdir(exist_ok=True)
    runs = [{"folder": name, "recipe": "r", "settings": {}, "seed": 0} for name in names]
    (folder / INDEX).write_text(json.dumps({"runs": runs}))
    return folder


@pytest.mark.parametrize("name", ["../other", "/etc", "a/../../other", ".", "", "link", "link/inner"])
def test_a_folder_outside_is_refused_by_name(tmp_path: Path, name: str) -> None:
    (tmp_path / "other" / "inner").mkdir(parents=True)
    grid = index(tmp_path / "grid", "inside", name)
    (grid / "link").symlink_to(tmp_path / "other")
    for reads in (read_index, lambda folder: gather([folder])):
        with pytest.raises(CheckpointError, match="not inside that of the grid") as refused:
            reads(grid)
        assert name in refused.value.message
        assert str(grid / INDEX) in refused.value.message


def test_a_folder_inside_is_taken_wherever_the_grid_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    index(tmp_path / "grid", "seed=0", "deep/seed=1")
    monkeypatch.chdir(tmp_path)
    for folder in (Path("grid"), tmp_path / "grid", Path("grid/../grid")):
        assert [each["folder"] for each in read_index(folder)] == ["seed=0", "deep/seed=1"]
    (tmp_path / "moved").symlink_to(tmp_path / "grid")
    assert len(read_index(tmp_path / "moved")) == 2
