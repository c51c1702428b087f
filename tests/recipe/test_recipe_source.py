"""YAML as recipes read it: numbers, anchors, and everything that is refused."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from idsnn_cli.errors import RecipeError
from idsnn_cli.recipe import load_recipe
from idsnn_cli.recipe.load import recipe_from_mapping
from idsnn_cli.recipe.nodes import Fault, plain
from idsnn_cli.recipe.source import MAX_BYTES, Unreadable, parse


def value_of(text: str) -> Any:
    faults: list[Fault] = []
    tree = parse(text, "t", faults)
    assert not faults
    return plain(tree)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        ("5e-4", 0.0005),
        ("1.", 1.0),
        (".5", 0.5),
        ("+2.5E+1", 25.0),
        ("-.inf", -math.inf),
        ("012", 12),
        ("0x1f", 31),
        ("0o17", 15),
        ("-7", -7),
        ("1_000", "1_000"),
        ("yes", "yes"),
        ("on", "on"),
        ("True", True),
        ("~", None),
        ("", None),
        ("2020-01-01", "2020-01-01"),
        ("1:30", "1:30"),
        ("1e", "1e"),
        ("'1'", "1"),
        ('"a\\tb"', "a\tb"),
        ("|\n  a\n  b\n", "a\nb\n"),
    ],
)
def test_scalars_are_those_of_yaml_1_2(text: str, value: object) -> None:
    got = value_of(f"k: {text}")["k"]
    assert (got, type(got)) == (value, type(value))


def test_anchors_and_merge_keys_share_values() -> None:
    text = "a: &a {x: 1, y: 2}\nb: {<<: *a, y: 3}\nc: *a\nd: {<<: [{x: 5}, *a]}\n"
    value = value_of(text)
    assert (value["b"], value["c"], value["d"]) == ({"x": 1, "y": 3}, {"x": 1, "y": 2}, {"x": 5, "y": 2})


def message_of(action: Callable[[], object]) -> str | None:
    """The message of the recipe error that ``action`` ends with, if it does; any other error is a failure."""
    try:
        action()
    except RecipeError as error:
        return error.message
    return None


# Each line is ten times the line before: the fifth would be a hundred thousand values.
BOMB = "n0: &a0 [1,1,1,1,1,1,1,1,1,1]\n" + "".join(
    f"n{i + 1}: &a{i + 1} [{','.join([f'*a{i}'] * 10)}]\n" for i in range(9)
)


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        ("a:\n\tb: 1", "2:1", "a tab cannot indent YAML"),
        ("a: b: c", "1:5", "quote text that holds ': '"),
        ("a: [1, 2", "1:9", "not YAML"),
        ("a: 'x", "1:6", "a quote is not closed"),
        ("a: @x", "1:4", "quote text that begins"),
        ("a: 1\n---\nb: 1", "2:1", "a second YAML document"),
        ("a: \x1b[31m", "1:4", "U+001B"),
        ("[" * 100_000, "1:14", "nested more than 12 levels"),
        ("a: [" + "1," * 30_000, "1:40003", "more than 20000 values"),
        (BOMB, "5:10", "more than 20000 values"),
    ],
)
def test_text_without_a_tree_is_refused_where_it_goes_wrong(text: str, place: str, words: str) -> None:
    with pytest.raises(Unreadable) as caught:
        parse(text, "t", [])
    assert str(caught.value.fault.place) == f"t:{place}"
    assert words in caught.value.fault.text


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        ("a: 1\nb: 2\na: 3", "3:1", "'a' stands twice in one mapping; first at t:1:1"),
        ("a: {b: 1, b: 2}", "1:11", "first at t:1:5"),
        ("a: !!python/object:os.system x", "1:4", "tag !!python/object:os.system is refused"),
        ("a: !x [1]", "1:4", "tag !x is refused"),
        ("a: &a [*a]", "1:8", "stands inside what it names"),
        ("? [1]\n: 2", "1:3", "a key is one word"),
        ("<<: 3", "1:1", "<< takes a mapping"),
        ('a: "\\ud800"', "1:4", "U+D800"),
        ("a: " + "9" * 5000, "1:4", "5000 characters is too long"),
        ("%YAML 1.1\n---\na: 1", "2:1", "YAML 1.2"),
    ],
)
def test_faults_that_leave_a_tree_are_collected(text: str, place: str, words: str) -> None:
    faults: list[Fault] = []
    parse(text, "t", faults)
    (fault,) = faults
    assert str(fault.place) == f"t:{place}"
    assert words in fault.text


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"", ":1:1: the recipe is empty"),
        (b"# only a comment\n", ":1:1: the recipe is empty"),
        (b"- a\n", ':1:1: the recipe is not a mapping but ["a"]'),
        (b"hello", ":1:1: the recipe is not a mapping but hello"),
        (b"a: 1\nb: \xff\n", ":2:4: byte 0xff is not UTF-8 text"),
        (b"\x89PNG\r\n\x1a\n\x00", ":1:1: byte 0x89 is not UTF-8 text"),
        (b"a: \x00", ":1:4: character U+0000"),
        (b"#" * (MAX_BYTES + 1), "larger than 256 KiB"),
    ],
)
def test_a_file_that_is_no_recipe_is_refused(tmp_path: Path, raw: bytes, words: str) -> None:
    path = tmp_path / "r.yaml"
    path.write_bytes(raw)
    with pytest.raises(RecipeError) as caught:
        load_recipe(path)
    assert caught.value.message.startswith(str(path))
    assert words in caught.value.message
    assert "\n" not in caught.value.message


def test_a_byte_order_mark_and_windows_line_ends_are_read(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_bytes(b"\xef\xbb\xbfdata:\r\n  dataset: digits\r\nseed: 2\r\n")
    loaded = load_recipe(path)
    assert (loaded.recipe.data.dataset, loaded.recipe.seed, loaded.name, loaded.path) == ("digits", 2, "r", path)


def test_what_is_no_file_is_a_recipe_error(tmp_path: Path) -> None:
    for path, words in (
        (tmp_path, "this is a folder"),
        (tmp_path / "none.yaml", "no such file"),
        (Path("a\0.yaml"), "cannot be read"),
        (tmp_path / ("a" * 400), "cannot be read"),
    ):
        with pytest.raises(RecipeError, match=words):
            load_recipe(path)


WORDS = "data dataset cifar10 distill lr extends seed 1e-3 null &a *a !!str << -- --- ... % %YAML 1.1 \u03bb \U0001d6fc"
FRAGMENTS = st.sampled_from(
    [*WORDS.split(), *"\n\t\r :,-?[]{}#'\"|>&*!%@`\\\x85\u2028\ufeff", "\n  ", ": ", "\\U00110000"]
)


@pytest.mark.slow
@settings(deadline=None, derandomize=True, max_examples=400)
@given(text=st.one_of(st.text(max_size=60), st.lists(FRAGMENTS, max_size=25).map("".join)))
def test_random_text_gives_a_recipe_or_a_recipe_error(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzz.yaml"
    path.write_text(text, encoding="utf-8", errors="surrogatepass", newline="")
    message = message_of(lambda: load_recipe(path))
    assert message is None or all(line and line.isprintable() for line in message.split("\n"))


VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=8), inner, max_size=3)),
    max_leaves=6,
)
KEYS = st.sampled_from(["data", "student", "distill", "normalise", "augment", "dataset", "milestones", "mean", "seed"])


@pytest.mark.slow
@settings(deadline=None, derandomize=True, max_examples=200)
@given(plain=st.dictionaries(KEYS, st.one_of(VALUES, st.dictionaries(KEYS, VALUES, max_size=4)), max_size=4))
def test_random_data_gives_a_recipe_or_a_recipe_error(plain: dict[str, Any]) -> None:
    message = message_of(lambda: recipe_from_mapping(plain, origin="t"))
    assert message is None or message.startswith("t: ")


def test_a_named_pipe_is_refused_at_once(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.yaml"
    os.mkfifo(pipe)
    with pytest.raises(RecipeError, match=r"pipe\.yaml: this is not an ordinary file"):
        load_recipe(pipe)
