"""What a training says of what it is computed in."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest
import torch
from tiny_runs import open_run, write_recipe

from idsnn_cli.pipeline import precision
from idsnn_cli.pipeline.precision import COMPILED_ANEW, tell_of_precision
from idsnn_cli.spiking import kernels


@pytest.fixture(autouse=True)
def as_they_were() -> Iterator[None]:
    yield
    kernels.forget()


def said(monkeypatch: pytest.MonkeyPatch, folder: Path, name: str) -> list[str]:
    recipe = write_recipe(
        folder,
        "{data: {dataset: digits}, student: {arch: spiking-resnet8}, runtime: {device: cpu, precision: " + name + "}}",
    )
    workspace = open_run(recipe, folder / "run").workspace
    heard: list[str] = []
    monkeypatch.setattr(workspace.events, "say", heard.append)
    for _ in range(2):
        tell_of_precision(workspace)
    return heard


@pytest.mark.parametrize("name", ["fp32", "fp64"])
def test_whole_precision_needs_no_word(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str) -> None:
    assert said(monkeypatch, tmp_path, name) == []


@pytest.mark.parametrize(
    ("switch", "installed", "reason", "seconds", "words"),
    [
        ("check", True, None, 1.0, "with compiled neurons"),
        ("check", True, None, COMPILED_ANEW + 5.0, "with compiled neurons, which took 9 s, once on this machine"),
        ("check", True, "of another numpy", 1.0, "without compiled neurons, for numba does not work: of another numpy"),
        ("check", False, None, 1.0, "without compiled neurons (pip install 'idsnn-cli[fast]' makes them faster)"),
        ("0", True, None, 1.0, "without compiled neurons"),
    ],
)
def test_bf16_on_a_cpu_is_told_once_with_what_makes_it_faster(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    switch: str,
    installed: bool,
    reason: str | None,
    seconds: float,
    words: str,
) -> None:
    monkeypatch.setenv(kernels.SWITCH, switch)
    monkeypatch.setattr(kernels, "find_spec", lambda _: installed or None)
    kernels.forget()
    monkeypatch.setattr(precision, "failure", lambda: reason)
    clock = count(0.0, seconds)
    monkeypatch.setattr(precision, "perf_counter", lambda: next(clock))
    threads = torch.get_num_threads()
    noun = "thread" if threads == 1 else "threads"
    assert said(monkeypatch, tmp_path, "bf16") == [
        f"trainings are computed in bf16 on cpu by {threads} {noun}, {words}"
    ]
