"""A wrong IDSNN_FUSED in the environment is an error of every command that computes, on any machine."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from invoking import invoke

from idsnn_cli.spiking import kernels


@pytest.fixture(autouse=True)
def _read_anew(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    kernels.forget()
    yield
    monkeypatch.undo()
    kernels.forget()


@pytest.mark.parametrize(("word", "code"), [("check", 0), ("0", 0), ("1", 0), ("", 0), ("on", 2)])
def test_the_word_is_looked_at(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, word: str, code: int
) -> None:
    monkeypatch.setenv("IDSNN_FUSED", word)
    found = invoke(capsys, "run", "quickstart", "--dry-run")
    assert found.code == code
    assert ("IDSNN_FUSED is 'on'" in found.err) == (code == 2)
    assert "Traceback" not in found.err
