from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_checkpoints import random_state, resnet, save, spiking, torchvision_state

from idsnn_cli.architecture import Neuron
from idsnn_cli.errors import FamilyError
from idsnn_cli.report.inspect.comparison import compare_checkpoints
from idsnn_cli.report.inspect.network import merged_order


def rows_of(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {row["name"]: row for row in document["tensors"]}


@pytest.fixture
def teacher(tmp_path: Path) -> Path:
    return save(tmp_path / "a.safetensors", "teacher", resnet(), random_state(resnet()))


def test_a_file_equals_itself(teacher: Path) -> None:
    found = compare_checkpoints(teacher, teacher).to_dict()
    assert found["identical"]
    assert found["summary"]["same"] == len(resnet().tensors()) == len(found["tensors"])
    assert found["architecture"] == []
    assert found["parameters"] == {"relative_change": 0.0, "cosine": pytest.approx(1.0)}


def test_figures_are_those_of_the_formulas(tmp_path: Path, teacher: Path) -> None:
    other = random_state(resnet(), seed=1)
    found = compare_checkpoints(teacher, save(tmp_path / "b.safetensors", "student", resnet(), other)).to_dict()
    first = random_state(resnet())
    changes, norms = 0.0, 0.0
    for name, row in rows_of(found).items():
        if name.endswith("num_batches_tracked"):
            assert row["status"] == "same"
            continue
        a = first[name].numpy().astype(np.float64).ravel()
        b = other[name].numpy().astype(np.float64).ravel()
        assert row["status"] == "changed"
        assert row["relative_change"] == pytest.approx(np.linalg.norm(b - a) / np.linalg.norm(a), rel=1e-12)
        assert row["cosine"] == pytest.approx(a @ b / np.linalg.norm(a) / np.linalg.norm(b), rel=1e-9)
        if name.endswith(("weight", "bias")):
            changes += float(((b - a) ** 2).sum())
            norms += float((a**2).sum())
    assert found["parameters"]["relative_change"] == pytest.approx((changes / norms) ** 0.5, rel=1e-12)


def test_one_changed_value_is_found(tmp_path: Path, teacher: Path) -> None:
    state = random_state(resnet())
    state["stages.2.0.conv1.weight"][0, 0, 0, 0] += 1e-6
    found = compare_checkpoints(teacher, save(tmp_path / "b.safetensors", "teacher", resnet(), state)).to_dict()
    assert not found["identical"]
    assert [row["name"] for row in found["tensors"] if row["status"] != "same"] == ["stages.2.0.conv1.weight"]
    assert 0 < rows_of(found)["stages.2.0.conv1.weight"]["relative_change"] < 1e-6


def test_other_depths_and_widths(tmp_path: Path, teacher: Path) -> None:
    deeper, wider = resnet(14), resnet(8, width=6)
    found = compare_checkpoints(
        teacher, save(tmp_path / "b.safetensors", "teacher", deeper, random_state(deeper))
    ).to_dict()
    # Everything is in network order, what only B has included.
    assert [row["name"] for row in found["tensors"]] == list(deeper.tensors())
    extra = deeper.tensors().keys() - resnet().tensors().keys()
    assert {row["name"] for row in found["tensors"] if row["status"] == "only in B"} == extra
    assert found["summary"]["only in A"] == 0
    back = compare_checkpoints(tmp_path / "b.safetensors", teacher).to_dict()
    assert back["summary"]["only in A"] == len(extra)
    assert rows_of(back)["stages.1.1.conv0.weight"]["b_shape"] is None

    found = compare_checkpoints(
        teacher, save(tmp_path / "c.safetensors", "teacher", wider, random_state(wider))
    ).to_dict()
    row = rows_of(found)["stem.conv.weight"]
    assert (row["status"], row["a_shape"], row["b_shape"]) == ("shape differs", [4, 3, 3, 3], [6, 3, 3, 3])
    assert row["relative_change"] is row["cosine"] is None
    assert found["architecture"] == [{"key": "widths", "a": [4, 8, 16], "b": [6, 12, 24]}]


def test_a_foreign_file_is_compared_under_canonical_names(tmp_path: Path, teacher: Path) -> None:
    state = torchvision_state(random_state(resnet()))
    torch.save({"model": state}, tmp_path / "b.pth")
    found = compare_checkpoints(teacher, tmp_path / "b.pth").to_dict()
    different = {row["name"]: row["status"] for row in found["tensors"] if row["status"] != "same"}
    assert different == {"input.mean": "only in A", "input.std": "only in A"}
    assert found["b"]["kind"] == "foreign"
    assert not found["identical"]


def test_axes_of_one_make_no_other_shape(tmp_path: Path, teacher: Path) -> None:
    state = random_state(resnet())
    state["head.weight"] = state["head.weight"][:, :, None, None]
    found = compare_checkpoints(teacher, save(tmp_path / "b.safetensors", "teacher", resnet(), state)).to_dict()
    assert found["identical"]


def test_another_element_type_is_a_change_of_its_own_size(tmp_path: Path, teacher: Path) -> None:
    state = random_state(resnet())
    state["head.weight"] = state["head.weight"].half()
    state["head.bias"] = state["head.bias"].double()
    rows = rows_of(compare_checkpoints(teacher, save(tmp_path / "b.safetensors", "teacher", resnet(), state)).to_dict())
    half, double = rows["head.weight"], rows["head.bias"]
    assert (half["status"], half["a_dtype"], half["b_dtype"]) == ("changed", "float32", "float16")
    assert 0 < half["relative_change"] < 2**-10
    assert (double["status"], double["relative_change"]) == ("changed", 0.0)


def test_zeros_and_values_that_are_not_finite_give_no_figures(tmp_path: Path) -> None:
    first, second = random_state(resnet()), random_state(resnet())
    first["head.bias"].zero_()
    for state in (first, second):
        state["stem.norm.bias"][0] = float("nan")
    second["stem.norm.weight"][1] = float("inf")
    a = save(tmp_path / "a.safetensors", "teacher", resnet(), first)
    found = compare_checkpoints(a, save(tmp_path / "b.safetensors", "teacher", resnet(), second)).to_dict()
    rows = rows_of(found)
    assert rows["head.bias"]["relative_change"] is rows["head.bias"]["cosine"] is None
    assert rows["head.bias"]["status"] == "changed"
    assert (rows["stem.norm.bias"]["status"], rows["stem.norm.bias"]["finite"]) == ("same", False)
    assert (rows["stem.norm.weight"]["status"], rows["stem.norm.weight"]["finite"]) == ("changed", False)
    assert rows["stem.norm.weight"]["relative_change"] is None
    assert found["parameters"]["cosine"] is not None
    json.dumps(found, allow_nan=False)


def test_another_neuron_makes_another_network(tmp_path: Path) -> None:
    state = random_state(spiking())
    a = save(tmp_path / "a.safetensors", "init", spiking(), state)
    b = save(tmp_path / "b.safetensors", "init", spiking(neuron=Neuron(v_threshold=1.0)), state)
    found = compare_checkpoints(a, b).to_dict()
    assert found["architecture"] == [{"key": "neuron.v_threshold", "a": 0.5, "b": 1.0}]
    assert found["summary"]["same"] == len(state)
    assert not found["identical"]


def test_no_resnet_on_either_side_is_a_typed_error(tmp_path: Path, teacher: Path) -> None:
    torch.save({"weight": torch.zeros(3)}, tmp_path / "b.pth")
    for pair in ((teacher, tmp_path / "b.pth"), (tmp_path / "b.pth", teacher)):
        with pytest.raises(FamilyError, match=r"b\.pth"):
            compare_checkpoints(*pair).to_dict()


@settings(deadline=None, derandomize=True, max_examples=200)
@given(
    st.lists(st.integers(0, 15), unique=True).map(sorted),
    st.lists(st.integers(0, 15), unique=True).map(sorted),
)
def test_merged_names_keep_both_orders(first: list[int], second: list[int]) -> None:
    a, b = [f"t{n}" for n in first], [f"t{n}" for n in second]
    merged = merged_order(a, b)
    assert sorted(merged) == sorted({*a, *b})
    assert [name for name in merged if name in set(a)] == a
    assert [name for name in merged if name in set(b)] == b


def test_layers_sum_up_their_tensors(tmp_path: Path, teacher: Path) -> None:
    state = random_state(resnet())
    before = {name: value.clone().double() for name, value in state.items()}
    state["stages.1.0.conv0.weight"] *= 1.5
    state["stages.1.0.norm0.bias"] += 2.0
    found = compare_checkpoints(teacher, save(tmp_path / "b.safetensors", "teacher", resnet(), state)).to_dict()
    layers = {layer["name"]: layer for layer in found["layers"]}
    assert [name for name, layer in layers.items() if layer["change"] != 0] == ["stages.1.0.conv0"]
    parts = ("conv0.weight", "norm0.weight", "norm0.bias")
    change = [state[f"stages.1.0.{part}"].double() - before[f"stages.1.0.{part}"] for part in parts]
    first = [before[f"stages.1.0.{part}"] for part in parts]
    ratio = torch.cat([v.flatten() for v in change]).norm() / torch.cat([v.flatten() for v in first]).norm()
    assert layers["stages.1.0.conv0"]["change"] == pytest.approx(float(ratio))
    assert layers["stages.1.0.conv0"]["tensors"] == {"changed": 2, "same": 3}
    rows = rows_of(found)
    statistics = rows["stages.1.0.norm0.bias"]["b_statistics"]
    assert statistics["mean"] == pytest.approx(float(before["stages.1.0.norm0.bias"].mean()) + 2.0)


def test_the_layers_of_two_sizes_are_compared_where_shapes_agree(tmp_path: Path, teacher: Path) -> None:
    wider = save(tmp_path / "b.safetensors", "teacher", resnet(8, 8), random_state(resnet(8, 8)))
    found = compare_checkpoints(teacher, wider).to_dict()
    assert all(layer["change"] is None for layer in found["layers"] if layer["name"] != "head")
    assert next(layer for layer in found["layers"] if layer["name"] == "head")["change"] is not None
