"""The command line as a person meets it, in this process: words in; exit code, stdout and stderr out."""

from __future__ import annotations

import json
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from idsnn_cli.architecture import Architecture
from idsnn_cli.cli.main import main


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str

    @property
    def document(self) -> dict[str, Any]:
        """What stdout holds, which must be one JSON document and nothing else."""
        parsed: dict[str, Any] = json.loads(self.out)
        return parsed


def invoke(capsys: pytest.CaptureFixture[str], *words: str | Path) -> Outcome:
    """``idsnn WORDS``, with the handlers of signals put back afterwards."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    before = sys.argv
    sys.argv = ["idsnn", *map(str, words)]
    capsys.readouterr()
    try:
        main()
    except SystemExit as stop:
        code = stop.code
    finally:
        sys.argv = before
        for number, handler in handlers.items():
            signal.signal(number, handler)
    captured = capsys.readouterr()
    assert isinstance(code, int)
    assert "Traceback" not in captured.err
    return Outcome(code, captured.out, captured.err)


def save_network(path: Path, kind: str, architecture: Architecture, seed: int = 0, **metadata: Any) -> Path:
    """A checkpoint of random weights with metadata as the pipeline writes it."""
    from idsnn_cli.checkpoint import write_checkpoint
    from idsnn_cli.models import build

    described = {
        "kind": kind,
        "architecture": architecture.to_dict(),
        "recipe": {"seed": 3, "data": {"dataset": "digits"}, "distill": {"alpha": 0.3, "temperature": 4.0}},
        "provenance": {"trained": True, "start": {"rule": "loop", "dropped": {f"queue.{i}": "why" for i in range(9)}}},
        "metrics": {"epoch": 2, "test_top1": 91.5},
        "versions": {"idsnn": "0", "torch": "0"},
    }
    write_checkpoint(path, build(architecture, seed).state_dict(), described | metadata)
    return path
