"""How OpenMP's threads wait is set before torch is loaded, and left where somebody said it."""

from __future__ import annotations

import os

import pytest
from invoking import invoke

Capture = pytest.CaptureFixture[str]


@pytest.mark.parametrize(
    ("said", "spins"),
    [({}, "20000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "passive"}, None)],
    ids=["nothing", "count", "policy"],
)
def test_threads_spin_less_unless_the_environment_says_otherwise(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch, said: dict[str, str], spins: str | None
) -> None:
    for name in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY"):
        # Set first, so that what the command sets is taken back, too.
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    for name, value in said.items():
        monkeypatch.setenv(name, value)
    assert invoke(capsys, "recipes").code == 0
    assert os.environ.get("GOMP_SPINCOUNT") == spins
