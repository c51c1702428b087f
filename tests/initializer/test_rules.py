"""Which source block and which source channels a target takes, against the method's own examples."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from idsnn_cli.errors import UsageError
from idsnn_cli.initializer import Rules, loop_indices, source_block

rules: st.SearchStrategy[str] = st.sampled_from(["first", "proportional", "last", "ends"])


def taken(rule: str, target_depth: int, source_depth: int) -> list[int]:
    return [source_block(rule, block, target_depth, source_depth) for block in range(target_depth)]


@pytest.mark.parametrize(
    ("rule", "target_depth", "source_depth", "blocks"),
    [
        ("proportional", 2, 3, [0, 1]),
        ("proportional", 2, 6, [0, 3]),
        ("proportional", 3, 9, [0, 3, 6]),
        ("proportional", 2, 4, [0, 2]),
        ("first", 2, 3, [0, 1]),
        ("first", 3, 9, [0, 1, 2]),
        ("first", 5, 3, [0, 1, 2, 2, 2]),
        ("proportional", 4, 2, [0, 1, 1, 1]),
        ("proportional", 6, 3, [0, 1, 1, 1, 2, 2]),
        ("first", 3, 1, [0, 0, 0]),
        ("proportional", 3, 1, [0, 0, 0]),
        ("last", 3, 9, [6, 7, 8]),
        ("last", 2, 3, [1, 2]),
        ("last", 5, 3, [0, 1, 1, 1, 2]),
        ("ends", 3, 9, [0, 1, 8]),
        ("ends", 4, 9, [0, 1, 7, 8]),
        ("ends", 1, 9, [0]),
        ("ends", 5, 3, [0, 1, 1, 1, 2]),
    ],
)
def test_examples(rule: str, target_depth: int, source_depth: int, blocks: list[int]) -> None:
    assert taken(rule, target_depth, source_depth) == blocks


@settings(deadline=None, derandomize=True, max_examples=300)
@given(rules, st.integers(1, 40), st.integers(1, 40))
def test_properties(rule: str, target_depth: int, source_depth: int) -> None:
    blocks = taken(rule, target_depth, source_depth)
    assert blocks[0] == (max(source_depth - target_depth, 0) if rule == "last" else 0)
    assert blocks == sorted(blocks)
    assert max(blocks) < source_depth
    if source_depth > 1:
        assert 0 not in blocks[1:], "only a stage's first block takes a stage's first block"
    if target_depth == source_depth:
        assert blocks == list(range(source_depth))
    if target_depth <= source_depth:
        assert len(set(blocks)) == target_depth
        if rule == "proportional":
            assert blocks == [int(block * source_depth / target_depth + 1e-9) for block in range(target_depth)]


@settings(deadline=None, derandomize=True, max_examples=100)
@given(st.integers(1, 50), st.integers(1, 50))
def test_channels_are_kept_first_or_repeated(source: int, target: int) -> None:
    wanted, at = [], 0
    for _ in range(target):
        wanted.append(at)
        at = at + 1 if at + 1 < source else 0
    assert loop_indices(source, target) == wanted


@pytest.mark.parametrize("key", ["blocks", "shortcut", "head", "rescale"])
def test_unknown_choices_are_refused(key: str) -> None:
    spoiled: dict[str, Any] = {key: "sideways"}
    with pytest.raises(UsageError) as caught:
        Rules(**spoiled)
    assert key in caught.value.message
    assert "sideways" in caught.value.message
    assert caught.value.fix
