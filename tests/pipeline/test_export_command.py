"""``idsnn export``: the folded student, what it says of itself, and every way in which it cannot be made."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from invoking import invoke
from tiny_runs import contents, distill_step, metadata_of, open_run, write_recipe

from idsnn_cli.checkpoint import checkpoint_sha256, write_checkpoint
from idsnn_cli.models import Model, load
from idsnn_cli.pipeline.run import run_all

Capture = pytest.CaptureFixture[str]
LEARNT = "student.amplitude=channel"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("export")
    write_recipe(folder)
    run_all(open_run(folder / "tiny.yaml", folder / "run", LEARNT, "distill.lr=0.3"))
    return folder / "run"


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")


def logits(path: Path | str) -> torch.Tensor:
    model = load(path)
    assert isinstance(model, Model)
    with torch.no_grad():
        found: torch.Tensor = model(torch.rand(8, 3, 32, 32, generator=torch.Generator().manual_seed(0)))
    return found


def test_the_folded_network_is_written_and_answers_alike(run: Path, capsys: Capture) -> None:
    student = run / "student.safetensors"
    before = contents(run)
    found = invoke(capsys, "export", student, "-o", "folded.safetensors")
    assert found.code == 0, found.err
    assert "60 amplitudes" in found.out
    assert "folded amplitudes" in " ".join(found.out.split())
    assert "idsnn eval --checkpoint folded.safetensors" in found.err
    torch.testing.assert_close(logits("folded.safetensors"), logits(student), rtol=1e-4, atol=1e-4)
    assert contents(run) == before
    old, new = metadata_of(student), metadata_of(Path("folded.safetensors"))
    facts = new["provenance"].pop("folded")
    assert facts["source_sha256"] == checkpoint_sha256(student)
    assert facts["amplitudes"] == 60
    assert facts["smallest"] < 1 < facts["largest"]
    assert new.pop("architecture") == old.pop("architecture") | {"amplitude": "folded"}
    assert new == old


def test_the_map_of_a_folded_network_says_that_it_is_older_than_the_folding(run: Path, capsys: Capture) -> None:
    """It tells of tensors that the folded file no longer has, and of kernels that export has changed."""
    student, teacher = run / "student.safetensors", run / "teacher.safetensors"
    assert invoke(capsys, "export", student, "-o", "folded.safetensors").code == 0
    said = invoke(capsys, "inspect", "folded.safetensors", "--source", teacher, "--html", "map.html")
    assert said.code == 0, said.err
    words = "7 tensors of amplitudes are folded into what reads their spikes since (idsnn export)"
    assert words in " ".join(said.out.split())
    assert words in Path("map.html").read_text()
    assert "folded into" not in invoke(capsys, "inspect", student).out


def test_the_same_input_gives_the_same_bytes_and_one_document(run: Path, capsys: Capture) -> None:
    student = run / "student.safetensors"
    documents = [invoke(capsys, "export", student, "-o", f"{i}.safetensors", "--json").document for i in range(2)]
    assert Path("0.safetensors").read_bytes() == Path("1.safetensors").read_bytes()
    assert documents[0]["command"] == "export"
    assert documents[0] | {"file": "1.safetensors"} == documents[1]
    assert documents[0]["folded"] == metadata_of(Path("0.safetensors"))["provenance"]["folded"]


def test_float64_is_folded_to_1e_12(run: Path, capsys: Capture, tmp_path: Path) -> None:
    words = (LEARNT, "runtime.precision=fp64", "distill.lr=0.3", "distill.epochs=1")
    session = open_run(run.parent / "tiny.yaml", tmp_path / "run", *words)
    distill_step(session, teacher=run / "teacher.safetensors", student=run / "init.safetensors")
    student = tmp_path / "run" / "student.safetensors"
    assert invoke(capsys, "export", student, "-o", "folded.safetensors").code == 0
    first, second = logits(student), logits("folded.safetensors")
    assert first.dtype == second.dtype == torch.float64
    torch.testing.assert_close(second, first, rtol=1e-12, atol=1e-12)
    assert float(first.std()) > 0


def test_it_is_measured_and_inspected_like_any_other(run: Path, capsys: Capture) -> None:
    student = run / "student.safetensors"
    assert invoke(capsys, "export", student, "-o", "folded.safetensors").code == 0
    rows = []
    for path in (student, Path("folded.safetensors")):
        found = invoke(capsys, "eval", "--checkpoint", path, "--measure", "energy,beyond", "--json")
        assert found.code == 0, found.err
        rows.append(found.document["results"][0] if "results" in found.document else _row(found.document))
    assert rows[0]["top1_by_step"] == rows[1]["top1_by_step"]
    assert rows[0]["beyond"]["top1_by_step"] == rows[1]["beyond"]["top1_by_step"]
    assert rows[0]["energy"]["synops"] == rows[1]["energy"]["synops"]
    shown = invoke(capsys, "inspect", "folded.safetensors", "--source", run / "teacher.safetensors", "--json").document
    assert shown["missing"] == []
    assert shown["dropped"] == {}
    assert shown["provenance"]["folded"]["amplitudes"] == 60
    amplitudes = [part for block in shown["mapping"]["blocks"] for part in block["parts"] if part["reason"]]
    assert any(part["reason"] == "a spike counts 1 at first" for part in amplitudes)


def _row(document: dict[str, Any]) -> dict[str, Any]:
    row: dict[str, Any] = document["steps"][0]["figures"]["results"][0]
    return row


def test_a_file_that_is_there_is_replaced_by_force_only(run: Path, capsys: Capture) -> None:
    Path("mine.safetensors").write_text("mine")
    refused = invoke(capsys, "export", run / "student.safetensors", "-o", "mine.safetensors")
    assert refused.code == 1
    assert "--force" in refused.err
    assert Path("mine.safetensors").read_text() == "mine"
    assert invoke(capsys, "export", run / "student.safetensors", "-o", "mine.safetensors", "--force").code == 0
    assert logits("mine.safetensors").shape == (2, 8, 10)


def test_what_cannot_be_folded_is_told_and_nothing_is_written(run: Path, capsys: Capture) -> None:
    student = run / "student.safetensors"
    assert invoke(capsys, "export", student, "-o", "folded.safetensors").code == 0
    torch.save(load(student).state_dict(), "theirs.pth")
    write_checkpoint(Path("bare.safetensors"), load(student).state_dict(), {"kind": "student"})
    Path("notes.txt").write_text("no checkpoint")
    Path("folder").mkdir()
    cases: list[tuple[Path | str, str, str, int]] = [
        ("folded.safetensors", "out", "folded already", 2),
        (run / "teacher.safetensors", "out", "it is an ANN", 2),
        ("theirs.pth", "out", "not a checkpoint of idsnn", 1),
        ("bare.safetensors", "out", "not a checkpoint of idsnn", 1),
        ("notes.txt", "out", "not a checkpoint", 1),
        ("gone.safetensors", "out", "is not there", 1),
        ("folded.safetensors", "./folded.safetensors", "read and replaced", 2),
        (student, "out.onnxx", "stands for no format", 2),
        (student, "folder", "it is a folder", 1),
        (student, "nowhere/out", "folder does not exist", 1),
    ]
    for source, target, message, code in cases:
        found = invoke(capsys, "export", source, "-o", target, "--json")
        assert found.code == code
        assert message in found.document["error"]["message"]
        assert found.document["error"]["fix"]
        assert "Traceback" not in found.err
        assert not Path("out").exists()
    named = invoke(capsys, "export", student, "-o", "out.onnxx", "--format", "fould", "--json")
    assert "Did you mean 'fold'?" in named.document["error"]["message"]
    assert json.loads(json.dumps(metadata_of(Path("folded.safetensors"))))["kind"] == "student"


def test_a_plain_student_has_nothing_to_fold(run: Path, capsys: Capture, tmp_path: Path) -> None:
    run_all(open_run(run.parent / "tiny.yaml", tmp_path / "run", "distill.epochs=1", "teacher.epochs=1"))
    found = invoke(capsys, "export", tmp_path / "run" / "student.safetensors", "-o", "out", "--json")
    assert found.code == 2
    assert "nothing to fold" in found.document["error"]["message"]
    assert "student.amplitude=channel" in found.document["error"]["fix"]
