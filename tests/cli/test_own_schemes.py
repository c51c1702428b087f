"""``--scheme FILE``: a user's own table of names, its faults by line and column, and networks without any table."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from invoking import invoke

from idsnn_cli import initialize, load
from idsnn_cli.architecture import build_description
from idsnn_cli.errors import SchemeError
from idsnn_cli.models import build
from idsnn_cli.pipeline.steps.base import step
from idsnn_cli.pipeline.workspace import Workspace
from idsnn_cli.recipe import load_recipe
from idsnn_cli.sources.tables import read_scheme

Capture = pytest.CaptureFixture[str]
PLAIN = build_description("resnet20", 10, width=4)
TABLE = """title: the lab's names
rows:
  entry.c: stem.conv
  entry.n: stem.norm
  part{s+1}.{b}.c{i+1}: stages.{s}.{b}.conv{i}
  part{s+1}.{b}.n{i+1}: stages.{s}.{b}.norm{i}
  part{s+1}.{b}.skip.0: stages.{s}.{b}.shortcut.conv
  "part{s+1}.{b}.skip.1": stages.{s}.{b}.shortcut.norm
  W: head.weight
  beta: head.bias
dropped:
  helper{i}.{*}: a classifier that only training used
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    Path("table.yaml").write_text(TABLE)
    torch.save(theirs(), "theirs.pth")


def theirs() -> dict[str, torch.Tensor]:
    """The plain network under the table's names, in an order that says nothing, with two helpers."""
    named = {"head.weight": "W", "head.bias": "beta"}
    state = {}
    for name, value in build(PLAIN, seed=0).state_dict().items():
        module, _, leaf = name.rpartition(".")
        key = named.get(name)
        if name.startswith("input."):
            continue
        if name.startswith("stages."):
            _, stage, block, rest = module.split(".", 3)
            rest = rest.replace("shortcut.conv", "skip.0").replace("shortcut.norm", "skip.1")
            for old, new in (("conv", "c"), ("norm", "n")):
                if rest.startswith(old):
                    rest = f"{new}{int(rest[len(old) :]) + 1}"
            key = f"part{int(stage) + 1}.{block}.{rest}.{leaf}"
        state[key or f"entry.{module[5]}.{leaf}"] = value
    state |= {f"helper{i}.deep.weight": torch.zeros(2, 2) for i in range(2)}
    return {key: state[key] for key in sorted(state)}


def test_inspect_init_and_eval_take_the_table(capsys: Capture) -> None:
    refused = invoke(capsys, "inspect", "theirs.pth")
    assert refused.code == 1
    assert "--scheme FILE" in refused.err
    found = invoke(capsys, "inspect", "theirs.pth", "--scheme", "table.yaml", "--json").document
    assert found["description"] == PLAIN.describe()
    assert (found["scheme"], found["certainty"]) == ("own", None)
    assert found["dropped"] == {f"helper{i}.deep.weight": "a classifier that only training used" for i in range(2)}
    words = ("--scheme", "table.yaml", "--normalise", "none")
    made = invoke(
        capsys, "init", "--from", "theirs.pth", "--arch", "spiking-resnet20", "student.width=4", "-o", "a.safetensors",
        *words,
    )  # fmt: skip
    assert made.code == 0, made.err
    measured = invoke(capsys, "eval", "--checkpoint", "theirs.pth", "--data", "digits", *words, "--json")
    assert measured.code == 0, measured.err
    assert measured.document["results"][0]["architecture"] == PLAIN.describe()
    assert invoke(capsys, "inspect", "theirs.pth", "theirs.pth", "--exit-code", "--scheme", "table.yaml").code == 0
    ours = invoke(capsys, "inspect", "a.safetensors", "--scheme", "table.yaml")
    assert (ours.code, "--scheme" in ours.err) == (2, True)


def test_python_takes_it_too() -> None:
    scheme = read_scheme(Path("table.yaml"))
    images = torch.rand((2, 3, 8, 8), generator=torch.Generator().manual_seed(0))
    network = load("theirs.pth", normalise=((0.0,) * 3, (1.0,) * 3), scheme=scheme)
    own = build(PLAIN, seed=0).eval()
    with torch.no_grad():
        assert torch.equal(network(images), own(images))
    assert initialize("theirs.pth", PLAIN, scheme=scheme).scheme == "own"


def test_a_fault_of_the_file_is_named_by_the_table(capsys: Capture) -> None:
    state = theirs()
    for key, name in (("part2.0.n1.bias", "stages.1.0.norm0.bias"), ("W", "head.weight")):
        torch.save({other: value for other, value in state.items() if other != key}, "theirs.pth")
        found = invoke(capsys, "inspect", "theirs.pth", "--scheme", "table.yaml")
        assert f"missing: '{key}' ({name})" in " ".join(found.err.split())
    torch.save(theirs() | {"oddity": torch.zeros(1)}, "theirs.pth")
    found = invoke(capsys, "inspect", "theirs.pth", "--scheme", "table.yaml")
    assert "1 of " in found.err
    assert "the lab's names" in found.err
    assert "'oddity'" in found.err
    assert invoke(capsys, "inspect", "theirs.pth", "--scheme", "table.yaml", "--allow-unused").code == 0


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("rows:\n  a: stem.cov\n", "table.yaml:2:6: rows.a: 'stem.cov' is no canonical name"),
        ("rows:\n  a.{b}: stem.conv\n", "table.yaml:2:10: rows.a.{b}: 'stem.conv' does not have the placeholders"),
        ("rows:\n  a{b}{b}: stages.0.{b}.conv0\n", "has {b} twice"),
        ("rows:\n  a{x}: stem.conv\n", "has {x}; placeholders are {s}"),
        ("rows:\n  a{*}: stem.conv\n", "which only patterns under dropped may have"),
        ("rows:\n  a: null\n", "table.yaml:2:3: rows.a: is dropped by writing it under dropped"),
        ("rows:\n  a: [1]\n", "table.yaml:2:6: rows.a: needs a canonical name"),
        ("rows:\n  a: stem.conv\ndropped:\n  b: 3\n", "table.yaml:4:6: dropped.b: needs a reason in words"),
        ("rows:\n  a: stem.conv\nshortcut: pad\n", "table.yaml:3:11: shortcut: is 'pad', not projection or average"),
        ("rows:\n  a: stem.conv\nrow: 3\n", "table.yaml:3:1: no key 'row'. Did you mean 'rows'?"),
        ("rows: [a]\n", "table.yaml:1:7: rows: is not a mapping"),
        ("- a\n", "table.yaml:1:1: a table of names is a mapping"),
        ("rows:\n  a: b: c\n", "table.yaml:2:7: not YAML"),
        ("title: x\n", "rows: there are none"),
        ("rows:\n  a: !!python/name:os.system x\n", "is refused; a table holds plain values only"),
        ("rows:\n  a: stem.conv\n  a: head\n", "table.yaml:3:3: 'a' stands twice"),
        ("", "a table of names is a mapping"),
    ],
)
def test_faults_of_a_table(capsys: Capture, text: str, said: str) -> None:
    Path("table.yaml").write_text(text)
    found = invoke(capsys, "inspect", "theirs.pth", "--scheme", "table.yaml")
    assert found.code == 2
    assert said in " ".join(found.err.split())
    assert len(found.err.splitlines()) <= 6


def test_a_table_that_cannot_be_read() -> None:
    Path("latin.yaml").write_bytes(b"\xff\xfe\xff")
    Path("large.yaml").write_bytes(b"#" * 300_000)
    for name, said in (
        ("none.yaml", "No such file"),
        (".", "directory"),
        ("latin.yaml", "UTF-8"),
        ("large.yaml", "KiB"),
    ):
        with pytest.raises(SchemeError, match=said) as caught:
            read_scheme(Path(name))
        assert caught.value.fix


def test_a_table_counts_by_its_content_in_a_run_directory() -> None:
    def sections(*overrides: str) -> dict[str, object]:
        words = ("teacher.checkpoint=theirs.pth", *overrides)
        return step("teacher").settings(Workspace(load_recipe("quickstart", words).recipe, "q"))

    plain, first = sections(), sections("teacher.scheme=table.yaml")
    assert "scheme" not in json.dumps(plain)
    Path("other.yaml").write_text(TABLE)
    assert plain != first == sections("teacher.scheme=other.yaml")
    Path("table.yaml").write_text(TABLE.replace("lab", "other lab"))
    assert sections("teacher.scheme=table.yaml") != first
    portable = load_recipe("quickstart", ("teacher.scheme=table.yaml",)).recipe.portable()
    assert "scheme" not in portable["teacher"]


def test_a_layout_without_a_table_says_how_sure_it_is(capsys: Capture) -> None:
    state = build(PLAIN, seed=0).state_dict()
    strange = {f"tensor{i}": state[name] for i, name in enumerate(key for key in state if "input" not in key)}
    torch.save(strange, "strange.pth")
    found = invoke(capsys, "inspect", "strange.pth")
    assert found.code == 0, found.err
    flat = " ".join(found.out.split())
    assert "foreign, names unknown: inferred from shapes and order" in flat
    assert "certainty sure (0.93): gamma, beta, mean and variance of norms are told by their order alone" in flat
    certainty = invoke(capsys, "inspect", "strange.pth", "--json").document["certainty"]
    assert (certainty["number"], certainty["words"], len(certainty["reasons"])) == (0.93, "sure", 2)
    words = ("--arch", "spiking-resnet20", "student.width=4", "--normalise", "none", "-o", "a.safetensors")
    made = invoke(capsys, "init", "--from", "strange.pth", *words)
    assert made.code == 0, made.err
    assert "its layout is inferred from shapes and order, sure (0.93)" in " ".join(made.err.split())
    provenance = invoke(capsys, "inspect", "a.safetensors", "--json").document["provenance"]
    assert provenance["source_scheme"] == "structure"
    assert provenance["source_certainty"] == certainty
