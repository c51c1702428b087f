"""The student's shape trained as a quantised ANN, and converted: its ranges, its thresholds, its accuracy."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from pretraining_runs import RECIPE, opened, trained_teacher
from tiny_runs import file_of, pretrain_step, write_recipe

from idsnn_cli import load
from idsnn_cli.pipeline.run import run_all, summary

pytestmark = pytest.mark.slow

NEURON = ("student.v_threshold=1", "student.decay=1", "student.reset=soft", "student.start=half")
QUANTISED = (*NEURON, "student.threshold=channel", "pretrain.activation=qcfs", "init.convert=learnt-thresholds")


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_recipe(tmp_path_factory.mktemp("recipes"), RECIPE)


@pytest.fixture(scope="module")
def teacher(recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained_teacher(recipe, tmp_path_factory.mktemp("teacher"))


@pytest.mark.parametrize("threshold", ["layer", "channel"])
def test_learnt_thresholds_of_ms_blocks(recipe: Path, teacher: Path, tmp_path: Path, threshold: str) -> None:
    """Each lambda becomes a gain, which training then moves, in the units of the ANN."""
    neuron = ("v_threshold=1", "decay=1", "reset=soft", "start=half", "reset_gradient=full", "timesteps=4", "stem=3x3")
    words = (f"student.threshold={threshold}", "student.block=ms", *(f"student.{word}" for word in neuron))
    converted = ("pretrain.activation=qcfs", "init.convert=learnt-thresholds", "distill.source_rates=true")
    session = opened(recipe, teacher, tmp_path, *words, *converted)
    run_all(session)
    quantised, start, student = (load(file_of(session, each)) for each in ("pretrain", "init", "distill"))
    limits = {name: value for name, value in quantised.state_dict().items() if name.endswith(".limit")}
    assert len(limits) == 2 * 3 + 1
    gains = {name: value for name, value in start.state_dict().items() if "gain" in name}
    assert len(gains) == 3 + 1
    for name, gain in gains.items():
        place = name.removesuffix("gain.weight")
        limit = limits[f"{place}{'act' if place == 'final_' else 'act0'}.limit"]
        assert torch.allclose(gain, 1 / limit.expand_as(gain))
        assert gain.numel() == (1 if threshold == "layer" else start.get_parameter(f"{place}gain.weight").numel())
        assert not torch.equal(student.state_dict()[name], gain)


def limits_of(path: Path) -> dict[str, float]:
    return {name: float(value) for name, value in load(path).state_dict().items() if name.endswith(".limit")}


def test_a_quantised_source_keeps_its_ranges(recipe: Path, teacher: Path, tmp_path: Path) -> None:
    """Training goes on from the lambdas that it learnt, and from percentiles only where the recipe asks for one."""
    first = opened(recipe, teacher, tmp_path / "first", *QUANTISED)
    pretrain_step(first)
    source = file_of(first, "pretrain")
    learnt = limits_of(source)
    assert len(learnt) == 2 * 3 + 1
    assert len(set(learnt.values())) == len(learnt)
    found = {}
    for word in ("pretrain.percentile=null", "pretrain.percentile=99"):
        later = opened(recipe, teacher, tmp_path / word, *QUANTISED, f"init.source={source}", "pretrain.lr=1e-9", word)
        pretrain_step(later)
        found[word] = limits_of(file_of(later, "pretrain"))
    assert found["pretrain.percentile=null"] == pytest.approx(learnt, rel=1e-5)
    assert all(abs(value / learnt[name] - 1) > 1e-3 for name, value in found["pretrain.percentile=99"].items())


def test_conversion_of_a_smaller_network(recipe: Path, teacher: Path, tmp_path: Path) -> None:
    """What conversion alone cannot do: another depth and width, once it was trained as an ANN."""
    neuron = ("student.v_threshold=1", "student.decay=1", "student.reset=soft", "student.start=half")
    converted = (*neuron, "init.convert=weight-normalisation", "distill.epochs=0", "student.timesteps=64")
    # A 7x7 stem's max-pool of spikes is larger than that of rates.
    words = (*converted, "student.stem=3x3")
    session = opened(recipe, teacher, tmp_path, *words, "pretrain.epochs=4")
    rows = {row.name: row.top1 for row in summary(run_all(session))}
    assert rows["student"] == pytest.approx(rows["pretrain"], abs=10)
