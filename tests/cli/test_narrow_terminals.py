"""At 80 columns an epoch is one line, a table fits, and words stay whole."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from idsnn_cli.cli.console import Console
from idsnn_cli.cli.fitting import broken_at, fitted
from idsnn_cli.cli.progress import TrainingDisplay
from idsnn_cli.report.runs.page import run_tables

Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def _eighty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")


@pytest.mark.parametrize("split", ["test", "validation"])
@pytest.mark.parametrize("name", ["teacher", "pretrain", "baseline"])
@pytest.mark.parametrize(("epoch", "rate", "seconds"), [(1, 9.0, 0.1), (200, 4630.4, 12.1), (200, 123456.0, 98765.4)])
def test_an_epoch_is_one_line(capsys: Capture, name: str, split: str, epoch: int, rate: float, seconds: float) -> None:
    record = {"epoch": epoch, "train_loss": 2.345678, "train_top1": 100.0, "images_per_second": rate}
    record |= {"seconds": seconds, f"{split}_top1": 91.5, f"{split}_loss": 0.5}
    TrainingDisplay(Console()).epoch_done(name, record, 200)
    (line,) = capsys.readouterr().err.splitlines()
    assert len(line) <= 80
    assert line.startswith(
        f"{name} {epoch}/200  loss 2.3457  train 100.00 %  {split[:3] if split != 'test' else split} 91.50 %"
    )
    assert (f"{rate:.0f} img/s" in line) == (rate < 1e5)


def test_a_wider_terminal_has_room_for_all(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    record = {"epoch": 200, "train_loss": 2.3, "train_top1": 100.0, "validation_top1": 91.5}
    TrainingDisplay(Console()).epoch_done("baseline", record | {"images_per_second": 123456.0, "seconds": 98765.4}, 200)
    assert capsys.readouterr().err.endswith("123456 img/s  98765.4 s\n")


def shown(capsys: Capture, *table: Any) -> list[str]:
    Console().table(*table)
    return [line.rstrip() for line in capsys.readouterr().out.splitlines()]


def test_long_names_of_runs_break_behind_a_sign(capsys: Capture) -> None:
    name = "student.timesteps=4,distill.alpha=0.5,init.rule=loop (baseline)"
    arm: dict[str, Any] = {
        "name": name,
        "dataset": "cifar100",
        "split": "test",
        "runs": 2,
        "timesteps": 4,
        "paper": None,
        "measured": None,
        "energy_uj": None,
        **{key: {"mean": 61.0, "spread": 1.41} for key in ("last", "best")},
        "reach": {"reached": 2, "epoch": 2.5, **dict.fromkeys(("macs", "macs_with_teacher"), 1e15)}
        | dict.fromkeys(("seconds", "seconds_with_teacher"), 12345.6),
    }
    target = {"dataset": "cifar100", "split": "test", "timesteps": 4, "top1": 52.0, "of": "baseline", "arms": [name]}
    for table in run_tables({"arms": [arm], "targets": [target], "notes": [], "networks": []}):
        lines = shown(capsys, table.head, table.rows, table.caption)
        assert max(map(len, lines)) <= 80
        pieces = [each.strip(",") for each in name.replace("(", ",(").split(",")]
        assert all(piece.strip() in "\n".join(lines) for piece in pieces)
        for heads in table.head:
            assert set(heads.split()) <= set(" ".join(lines).split())


def test_heads_of_numbers_break_between_words_and_numbers_never(capsys: Capture) -> None:
    head = ["network", "validation top-1 %", "parameters", "T", "epochs", "training s", "what it is"]
    row = ["pretrain", 100.0, 123456789, 1024, 200, 123456.78, "Spiking ResNet-18"]
    lines = shown(capsys, head, [row])
    assert max(map(len, lines)) <= 80
    body = " ".join(" ".join(lines).split())
    for words in ("123,456,789", "123456.78", "1,024", "parameters", "validation", "Spiking", "ResNet-18"):
        assert words in body


@given(
    st.lists(
        st.tuples(st.text("ab ,._/-", max_size=40), st.text("xyz ", max_size=60), st.text("0123456789", max_size=9)),
        min_size=1,
        max_size=4,
    ),
    st.integers(40, 120),
)
def test_nothing_is_lost_and_nothing_is_too_wide(rows: list[tuple[str, str, str]], width: int) -> None:
    head, cells = fitted(("name", "a head of words", "number"), rows, (False, False, True), width)
    assert head[0] == "name"
    for row, after in zip(rows, cells, strict=True):
        assert ["".join(each.split()) for each in row] == ["".join(each.split()) for each in after]
        assert after[2] == row[2]
    columns = zip(*[head, *cells], strict=True)
    wide = [max(cell_len(line) for cell in column for line in cell.split("\n")) for column in columns]
    assert sum(wide) + 4 <= width


def test_letters_that_are_two_columns_wide_count_as_two() -> None:
    assert broken_at("日本語日本語", 6) == "日本語\n日本語"
    assert broken_at("ab cd ef", 5) == "ab cd\nef"
    assert broken_at("abcdefgh", 3) == "abc\ndef\ngh"
