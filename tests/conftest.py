"""What all tests run with.

Tensors this small are slower on several threads, most of all where other tests have the cores.
"""

from __future__ import annotations

import os

import pytest
import torch

torch.set_num_threads(1)
# The same numbers and words on every machine; tests of bf16 ask for it.
os.environ["IDSNN_CPU_BF16"] = "0"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--fuzz", type=int, default=350, metavar="N", help="Damaged checkpoints to read (350 by default).")
