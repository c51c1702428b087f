"""What a checkpoint says about itself: everything that made it, and nothing about the machine or the hour."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_runs import metadata_of, open_run, weights_of, write_recipe

from idsnn_cli.architecture import read_description
from idsnn_cli.checkpoint import file_sha256, tensors_sha256
from idsnn_cli.models import load
from idsnn_cli.pipeline.run import run_all
from idsnn_cli.recipe import recipe_from_mapping
from idsnn_cli.version import __version__

NAMES = ("teacher", "teacher.best", "init", "student", "student.best", "baseline", "baseline.best")
WORDS = [
    "student.surrogate=sigmoid",
    "student.surrogate_scale=3",
    "student.tau=0.7",
    "student.v_threshold=0.75",
    "distill.baseline=distilled",
    "data.validation=20",
    "data.select=validation",
]


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("a-folder-with-a-name")
    root = f"data.root={folder}"
    run_all(open_run(write_recipe(folder), folder / "run", root, *WORDS))
    return folder / "run"


@pytest.fixture(scope="module")
def described(run_dir: Path) -> dict[str, dict[str, Any]]:
    return {name: metadata_of(run_dir / f"{name}.safetensors") for name in NAMES}


def header(path: Path) -> dict[str, Any]:
    content = path.read_bytes()
    parsed: dict[str, Any] = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    return parsed


@pytest.mark.parametrize("name", NAMES)
def test_there_is_one_key_with_sorted_json(run_dir: Path, described: dict[str, dict[str, Any]], name: str) -> None:
    texts = header(run_dir / f"{name}.safetensors")["__metadata__"]
    assert set(texts) == {"idsnn"}
    assert texts["idsnn"] == json.dumps(described[name], sort_keys=True, separators=(",", ":"))
    keys = {"format_version", "kind", "architecture", "recipe", "provenance", "metrics", "versions"}
    assert keys <= set(described[name]) <= keys | {"mapping", "data"}


@pytest.mark.parametrize("name", NAMES)
def test_no_path_time_or_rate_is_in_the_file(run_dir: Path, described: dict[str, dict[str, Any]], name: str) -> None:
    content = (run_dir / f"{name}.safetensors").read_bytes()
    text = json.dumps(header(run_dir / f"{name}.safetensors"))
    assert os.fsencode(run_dir.parent.name) not in content
    for word in (run_dir, run_dir.parent, Path.cwd(), "seconds", "per_second"):
        assert str(word) not in text
    assert not {"root", "path"} & described[name]["recipe"]["data"].keys()
    assert described[name]["recipe"]["runtime"] == {"precision": "auto"}


@pytest.mark.parametrize("name", NAMES)
def test_the_architecture_and_the_recipe_rebuild_what_they_describe(
    described: dict[str, dict[str, Any]], name: str
) -> None:
    recipe = recipe_from_mapping(described[name]["recipe"], origin="the checkpoint")
    section = recipe.teacher if name.startswith("teacher") else recipe.student
    assert read_description(described[name]["architecture"]) == section.architecture(10)
    assert described[name]["versions"]["idsnn"] == __version__
    assert described[name]["versions"]["torch"] == torch.__version__.partition("+")[0]


def test_a_students_architecture_has_every_constant_of_its_neuron(described: dict[str, dict[str, Any]]) -> None:
    found = described["student"]["architecture"]
    assert found["timesteps"] == 2
    assert found["neuron"] == {
        "v_threshold": 0.75,
        "decay": pytest.approx(0.2396510364417858),  # exp(-1 / 0.7)
        "surrogate": "sigmoid",
        "surrogate_scale": 3.0,
    }
    assert {"spiking_block", "join", "coding", "stem_padding", "shortcut"} <= found.keys()
    assert "neuron" not in described["teacher"]["architecture"]


def test_metrics_are_those_of_the_epoch(run_dir: Path, described: dict[str, dict[str, Any]]) -> None:
    for name, step in {"teacher": "teacher", "student": "distill", "baseline": "baseline"}.items():
        lines = [json.loads(line) for line in (run_dir / step / "metrics.jsonl").read_text().splitlines()]
        for line in lines:
            del line["seconds"], line["images_per_second"]
        assert described[name]["metrics"] == lines[-1]
        best = max(lines, key=lambda line: (line["validation_top1"], -line["epoch"]))
        assert described[f"{name}.best"]["metrics"] == best


def test_provenance_leads_from_the_student_back_to_the_teacher(
    run_dir: Path, described: dict[str, dict[str, Any]]
) -> None:
    teacher = load(run_dir / "teacher.safetensors").state_dict()
    mapping = json.loads((run_dir / "mapping.json").read_text())
    read = {entry["source"] for entry in mapping["tensors"] if entry.get("source")}
    assert {"stem.conv.weight", "stages.2.0.shortcut.norm.running_var", "input.mean"} <= read
    assert "head.weight" not in read
    digest = tensors_sha256((name, teacher[name]) for name in read)
    for name in ("init", "student", "student.best"):
        found = described[name]
        assert found["mapping"] == {key: value for key, value in mapping.items() if key != "provenance"}
        provenance = found["provenance"] if name == "init" else found["provenance"]["start"]
        assert provenance["source_tensors_sha256"] == digest
        assert provenance == mapping["provenance"]
    assert described["student"]["provenance"]["inputs"] == {
        "start": file_sha256(run_dir / "init.safetensors"),
        "teacher": file_sha256(run_dir / "teacher.safetensors"),
    }
    assert described["baseline"]["provenance"]["start"] == {}
    assert "mapping" not in described["baseline"]


def test_load_gives_the_module_of_any_checkpoint(run_dir: Path, described: dict[str, dict[str, Any]]) -> None:
    images = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    for name in NAMES:
        path = run_dir / f"{name}.safetensors"
        model = load(path)
        assert not model.training
        assert model.architecture.to_dict() == described[name]["architecture"]
        stored = weights_of(path)
        assert {key: value.numpy().tobytes() for key, value in model.state_dict().items()} == stored
        with torch.no_grad():
            assert model(images).shape == ((3, 10) if name.startswith("teacher") else (2, 3, 10))


def test_the_python_interface(run_dir: Path) -> None:
    from idsnn_cli import initialize
    from idsnn_cli import load as public

    start = initialize(run_dir / "teacher.safetensors", "spiking-resnet14", num_classes=4)
    assert start.architecture.num_classes == 4
    # A stage's second block repeats the only one that the teacher has, looped over the wider target's channels.
    taken = load(run_dir / "teacher.safetensors").get_parameter("stages.1.0.conv0.weight")
    given = start.module().get_parameter("stages.1.1.conv0.weight")
    assert given.shape == (32, 32, 3, 3)
    assert torch.equal(given[9:13, 5:7], taken[[1, 2, 3, 4]][:, [1, 2]])
    model = public(str(run_dir / "student.safetensors"))
    assert model.architecture.kind == "spiking"
