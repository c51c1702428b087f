"""What all tests run with.

Tensors this small are slower on several threads, most of all where other tests have the cores.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch

if TYPE_CHECKING:
    from hub_stand_in import StandIn

torch.set_num_threads(1)
# The same numbers and words on every machine; tests of bf16 ask for it.
os.environ["IDSNN_CPU_BF16"] = "0"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--fuzz", type=int, default=350, metavar="N", help="Damaged checkpoints to read (350 by default).")


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StandIn]:
    """The stand-in of the hub, with a cache of its own, in a folder of the test's."""
    from hub_stand_in import connected

    monkeypatch.chdir(tmp_path)
    with connected(tmp_path / "cache", monkeypatch) as made:
        yield made
