"""Our own checkpoints: the bytes written, what reads them back, and hashes of what they were made from."""

from __future__ import annotations

import hashlib
import json
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from idsnn_cli.checkpoint import (
    FORMAT_VERSION,
    file_sha256,
    load_state,
    open_checkpoint,
    tensors_sha256,
    write_checkpoint,
)
from idsnn_cli.errors import CheckpointError


def sample() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        "stem.conv.weight": torch.randn(4, 3, 3, 3, generator=generator),
        "stem.norm.num_batches_tracked": torch.tensor(7),
        "stem.norm.bias": torch.randn(4, generator=generator),
        "head.weight": torch.randn(2, 4, generator=generator).to(torch.float64),
    }


def test_the_bytes_are_those_of_the_safetensors_package(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    write_checkpoint(path, sample(), {"b": [1, None], "a": "é"})
    document = json.dumps({"a": "é", "b": [1, None], "format_version": 1}, sort_keys=True, separators=(",", ":"))
    assert path.read_bytes() == safetensors.torch.save(sample(), metadata={"idsnn": document})


def test_the_same_input_gives_the_same_bytes_in_any_order(tmp_path: Path) -> None:
    tensors = sample()
    turned = dict(reversed(tensors.items()))
    write_checkpoint(tmp_path / "a", tensors, {"x": 1, "y": {"p": 2, "q": 3}})
    write_checkpoint(tmp_path / "b", turned, {"y": {"q": 3, "p": 2}, "x": 1})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert file_sha256(tmp_path / "a") == hashlib.sha256((tmp_path / "a").read_bytes()).hexdigest()


def test_tied_strided_expanded_and_trainable_tensors_are_written_as_their_values(tmp_path: Path) -> None:
    base = torch.arange(12.0).reshape(3, 4)
    tensors = {
        "tied.a": base,
        "tied.b": base,
        "transposed": base.T,
        "slice": base[:, 1:3],
        "expanded": torch.ones(1, 3).expand(5, 3),
        "parameter": torch.nn.Parameter(base + 1),
        "channels_last": torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last),
        "conjugate": torch.randn(3, dtype=torch.complex64).conj(),
        "empty": torch.zeros(0, 4),
        "scalar": torch.tensor(True),
    }
    write_checkpoint(tmp_path / "a", tensors, {})
    back = safetensors.torch.load_file(tmp_path / "a")
    assert set(back) == set(tensors)
    for name, tensor in tensors.items():
        assert torch.equal(back[name], tensor.detach()), name
        assert back[name].dtype == tensor.dtype


DTYPES = [torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64]
DTYPES += [torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.float8_e4m3fn, torch.complex64]


@settings(deadline=None, derandomize=True, max_examples=60)
@given(
    st.dictionaries(
        st.text(st.characters(codec="utf-8"), min_size=1, max_size=12).filter(lambda n: n != "__metadata__"),
        st.tuples(st.lists(st.integers(0, 4), max_size=4), st.sampled_from(DTYPES)),
        min_size=1,
        max_size=6,
    )
)
def test_whatever_is_written_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, layout: dict[str, tuple[list[int], torch.dtype]]
) -> None:
    path = tmp_path_factory.getbasetemp() / "round.safetensors"
    generator = torch.Generator().manual_seed(1)
    tensors = {
        name: torch.randint(0, 2, shape, generator=generator).to(dtype) for name, (shape, dtype) in layout.items()
    }
    write_checkpoint(path, tensors, {"note": "x"})
    with open_checkpoint(path) as checkpoint:
        assert set(checkpoint.keys()) == set(tensors)
        assert checkpoint.metadata == {"format_version": FORMAT_VERSION, "note": "x"}
        assert checkpoint.others == {}
        for name, tensor in tensors.items():
            assert checkpoint.shape(name) == tuple(tensor.shape)
            assert checkpoint.dtype(name) == tensor.dtype
            back = checkpoint.get(name)
            assert back.dtype == tensor.dtype
            assert torch.equal(back.to(torch.complex64), tensor.to(torch.complex64))


def test_load_state_gives_tensors_that_outlive_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    write_checkpoint(path, sample(), {"metrics": {"top1": 94.03}})
    state, metadata = load_state(path)
    write_checkpoint(path, {"other": torch.zeros(1)}, {})
    assert metadata == {"format_version": 1, "metrics": {"top1": 94.03}}
    assert set(state) == set(sample())
    for name, tensor in sample().items():
        assert torch.equal(state[name], tensor)


def test_changing_a_tensor_that_was_read_leaves_the_file_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    write_checkpoint(path, sample(), {})
    digest = file_sha256(path)
    state, _ = load_state(path)
    state["stem.norm.bias"].zero_()
    assert file_sha256(path) == digest


def test_another_programs_safetensors_has_no_metadata_of_ours(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    safetensors.torch.save_file(sample(), path, metadata={"format": "pt"})
    with open_checkpoint(path) as checkpoint:
        assert checkpoint.metadata is None
        assert checkpoint.others == {"format": "pt"}
        with pytest.raises(KeyError):
            checkpoint.get("absent")
    with pytest.raises(CheckpointError, match="no checkpoint that idsnn wrote"):
        load_state(path)


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ("{", "damaged"),
        ("[]", "damaged"),
        ("{}", "damaged"),
        ("[" * 100_000, "damaged"),
        ('{"format_version": 2}', "format version 2"),
        ('{"format_version": "new"}', "format version new"),
    ],
    ids=["cut", "list", "no version", "deep", "newer", "words"],
)
def test_metadata_that_is_damaged_or_of_a_later_version(tmp_path: Path, document: str, words: str) -> None:
    path = tmp_path / "a.safetensors"
    safetensors.torch.save_file(sample(), path, metadata={"idsnn": document})
    with pytest.raises(CheckpointError, match=words):
        open_checkpoint(path)


@pytest.mark.parametrize(
    "make",
    [
        lambda: torch.zeros(2, device="meta"),
        lambda: torch.eye(2).to_sparse(),
        lambda: torch.zeros(2, dtype=torch.complex128),
    ],
    ids=["meta", "sparse", "complex128"],
)
def test_tensors_that_have_no_plain_bytes_are_named(tmp_path: Path, make: Callable[[], Tensor]) -> None:
    with pytest.raises(CheckpointError, match="'odd'"):
        write_checkpoint(tmp_path / "a", {"fine": torch.zeros(1), "odd": make()}, {})
    assert list(tmp_path.iterdir()) == []


def test_the_formats_own_key_is_no_tensor_name(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="__metadata__"):
        write_checkpoint(tmp_path / "a", {"__metadata__": torch.zeros(1)}, {})


def test_only_one_metadata_key_is_written(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "a", sample(), {"x": 1})
    content = (tmp_path / "a").read_bytes()
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    assert header["__metadata__"] == {"idsnn": '{"format_version":1,"x":1}'}


def test_tensors_hash_ignores_order_and_layout_and_nothing_else() -> None:
    base = OrderedDict(a=torch.arange(6.0).reshape(2, 3), b=torch.ones(2))
    digest = tensors_sha256(base.items())
    assert digest == tensors_sha256(reversed(base.items()))
    assert digest == tensors_sha256([("a", base["a"].T.contiguous().T), ("b", torch.ones(1).expand(2))])
    changed: list[list[tuple[str, Tensor]]] = [
        [("a", base["a"].reshape(3, 2)), ("b", base["b"])],
        [("a", base["a"].to(torch.float64)), ("b", base["b"])],
        [("a", base["a"]), ("c", base["b"])],
        [("a", base["a"] + 1e-7), ("b", base["b"])],
        [("a", base["a"].view(torch.int32)), ("b", base["b"])],
        [("a", base["a"])],
        [],
    ]
    digests = [tensors_sha256(items) for items in changed]
    assert len({digest, *digests}) == len(changed) + 1


def test_tensors_hash_refuses_a_name_twice() -> None:
    with pytest.raises(ValueError, match="'a'"):
        tensors_sha256([("a", torch.zeros(1)), ("a", torch.zeros(1))])


def test_hash_of_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no such file"):
        file_sha256(tmp_path / "absent")
