"""One hash of many tensors, worked out in a thread, against its definition."""

from __future__ import annotations

import hashlib
import json

import pytest
import torch

from idsnn_cli.checkpoint import TensorsDigest, tensors_sha256
from idsnn_cli.errors import CheckpointError

TENSORS = {f"t{n:02}": torch.arange(float(n)).reshape(1, -1) for n in range(40)} | {"a": torch.ones(2, 3).t()}


def test_it_is_the_hash_of_sorted_lines() -> None:
    lines = [
        [name, "F32", list(value.shape), hashlib.sha256(value.contiguous().numpy().tobytes()).hexdigest()]
        for name, value in sorted(TENSORS.items())
    ]
    text = "".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines)
    expected = hashlib.sha256(text.encode()).hexdigest()
    assert tensors_sha256(TENSORS.items()) == expected
    with TensorsDigest() as digest:
        for name in reversed(TENSORS):
            assert name not in digest
            digest.add(name, TENSORS[name])
            assert name in digest
        assert digest.hexdigest() == expected


def test_a_name_given_twice_and_a_tensor_without_bytes_are_refused() -> None:
    with TensorsDigest() as digest:
        digest.add("a", torch.ones(1))
        with pytest.raises(ValueError, match="twice"):
            digest.add("a", torch.ones(1))
        digest.add("b", torch.empty(3, device="meta"))
        with pytest.raises(CheckpointError, match="no plain bytes"):
            digest.hexdigest()
