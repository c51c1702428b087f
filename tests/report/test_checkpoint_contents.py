from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from tiny_checkpoints import random_state, resnet, save, spiking, torchvision_state

from idsnn_cli.checkpoint import write_checkpoint
from idsnn_cli.errors import CheckpointError, FamilyError
from idsnn_cli.initializer import initialize
from idsnn_cli.models import build
from idsnn_cli.report.inspect.checkpoint import describe_checkpoint

KEYS = {
    "file",
    "statistics",
    "source_statistics",
    "file_bytes",
    "kind",
    "scheme",
    "architecture",
    "description",
    "parameters",
    "tensors",
    "values",
    "bytes",
    "stages",
    "missing",
    "decays",
    "certainty",
    "choice",
    "dropped",
    "weights",
    "unknown",
    "provenance",
    "metrics",
    "recipe",
    "data",
    "versions",
    "mapping",
}


def test_counts_are_those_of_the_module(tmp_path: Path) -> None:
    model = build(resnet(14), seed=0)
    found = describe_checkpoint(
        save(tmp_path / "t.safetensors", "teacher", model.architecture, model.state_dict())
    ).to_dict()
    state = model.state_dict()
    assert found["parameters"] == sum(each.numel() for each in model.parameters())
    assert found["tensors"] == len(state)
    assert found["values"] == sum(each.numel() for each in state.values())
    assert found["bytes"] == sum(each.nbytes for each in state.values())
    assert found["description"] == model.architecture.describe()
    assert (found["missing"], found["dropped"], found["unknown"]) == ([], {}, [])


def test_stages_stand_in_network_order_and_add_up_to_their_modules(tmp_path: Path) -> None:
    model = build(resnet(14), seed=0)
    found = describe_checkpoint(
        save(tmp_path / "t.safetensors", "teacher", model.architecture, model.state_dict())
    ).to_dict()
    names = [stage["name"] for stage in found["stages"]]
    assert names == ["input", "stem", "stages.0", "stages.1", "stages.2", "head"]
    for stage in found["stages"]:
        inside = model.get_submodule(stage["name"]).state_dict()
        assert stage["tensors"] == len(inside) == sum(stage["dtypes"].values())
        assert stage["values"] == sum(each.numel() for each in inside.values())
        assert stage["bytes"] == sum(each.nbytes for each in inside.values())
        counters = sum(name.endswith("num_batches_tracked") for name in inside)
        assert stage["dtypes"].get("int64", 0) == counters


def test_keys_are_fixed_and_json_ready_for_ours_and_for_foreign_files(tmp_path: Path) -> None:
    state = random_state(resnet())
    ours = save(tmp_path / "t.safetensors", "teacher", resnet(), state, data={"name": "digits", "classes": ["0"]})
    torch.save(torchvision_state(state), tmp_path / "f.pth")
    for path in (ours, tmp_path / "f.pth"):
        found = describe_checkpoint(path).to_dict()
        assert set(found) == KEYS
        assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_metadata_of_ours_is_shown(tmp_path: Path) -> None:
    found = describe_checkpoint(
        save(tmp_path / "t.safetensors", "baseline", spiking(), random_state(spiking()))
    ).to_dict()
    assert found["kind"] == "baseline"
    assert found["scheme"] == "idsnn"
    assert found["metrics"] == {"epoch": 2, "test_top1": 91.5}
    assert found["recipe"]["seed"] == 3
    assert found["mapping"] is None


def test_half_precision_is_counted_in_its_own_bytes(tmp_path: Path) -> None:
    state = {
        name: value.half() if value.is_floating_point() else value for name, value in random_state(resnet()).items()
    }
    found = describe_checkpoint(save(tmp_path / "t.safetensors", "teacher", resnet(), state)).to_dict()
    head = found["stages"][-1]
    assert head["dtypes"] == {"float16": 2}
    assert head["bytes"] == 2 * head["values"] == 2 * (10 * 16 + 10)


def test_a_foreign_file_is_recognised_and_what_is_not_the_network_is_dropped_by_name(tmp_path: Path) -> None:
    state = random_state(resnet(14))
    content = {"state_dict": torchvision_state(state), "optimizer": {"state": {0: {"momentum_buffer": torch.ones(5)}}}}
    torch.save(content, tmp_path / "f.pth")
    found = describe_checkpoint(tmp_path / "f.pth").to_dict()
    assert found["kind"] == "foreign"
    assert found["architecture"] == resnet(14).to_dict()
    assert found["parameters"] == resnet(14).parameters()
    assert found["missing"] == ["input.mean", "input.std"]
    assert list(found["dropped"]) == ["optimizer.state.0.momentum_buffer"]
    last = found["stages"][-1]
    assert (last["name"], last["values"], last["bytes"]) == ("dropped", 5, 20)
    assert found["values"] == sum(value.numel() for name, value in state.items() if not name.startswith("input."))
    assert found["provenance"] is None
    assert found["unknown"]


def test_a_network_without_a_linear_layer_does_not_claim_classes(tmp_path: Path) -> None:
    state = torchvision_state(random_state(resnet()))
    torch.save({name: value for name, value in state.items() if not name.startswith("fc")}, tmp_path / "f.pth")
    found = describe_checkpoint(tmp_path / "f.pth").to_dict()
    assert "no linear layer" in found["description"]
    assert "classes" not in found["description"]
    assert "head.weight" in found["missing"]


def test_lacking_and_superfluous_tensors_of_ours_are_named(tmp_path: Path) -> None:
    state = random_state(resnet())
    del state["stages.1.0.norm0.bias"]
    state["note.scores"] = torch.zeros(2)  # within the network it would be refused: tests/models/test_identify.py
    found = describe_checkpoint(save(tmp_path / "t.safetensors", "teacher", resnet(), state)).to_dict()
    assert found["missing"] == ["stages.1.0.norm0.bias"]
    assert list(found["dropped"]) == ["note.scores"]
    assert found["parameters"] == resnet().parameters() - 8


def test_the_mapping_of_an_init_checkpoint_is_described(tmp_path: Path) -> None:
    teacher = save(tmp_path / "t.safetensors", "teacher", resnet(14), random_state(resnet(14)))
    init = initialize(teacher, spiking())
    path = save(tmp_path / "i.safetensors", "init", init.architecture, init.state, mapping=init.plan.to_dict())
    mapping = describe_checkpoint(path).to_dict()["mapping"]
    assert mapping["source"] == resnet(14).describe()
    assert mapping["values"] == init.plan.counts()


@pytest.mark.parametrize("suffix", ["safetensors", "pth"])
def test_a_file_that_is_no_resnet_is_a_typed_error_that_names_it(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"gpt.{suffix}"
    state = {"transformer.h.0.attn.c_attn.weight": torch.zeros(4, 12), "transformer.wte.weight": torch.zeros(8, 4)}
    if suffix == "pth":
        torch.save(state, path)
    else:
        write_checkpoint(path, state, {})
    with pytest.raises(FamilyError) as caught:
        describe_checkpoint(path).to_dict()
    assert str(path) in caught.value.message
    assert caught.value.fix


def test_a_missing_file_is_a_typed_error(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no such file"):
        describe_checkpoint(tmp_path / "nothing.safetensors").to_dict()
