"""Freed memory is kept: a process that makes the same large tensors again does not fault them in again."""

from __future__ import annotations

import json
import platform
import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow

SCRIPT = """
import json, resource, sys
import torch
from idsnn_cli.training import keep_freed_memory

torch.set_num_threads(1)
kept = sys.argv[1] == "kept" and keep_freed_memory()
for _ in range(2):
    torch.ones(2**23)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(40):
    torch.ones(2**23)
print(json.dumps([kept, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before]))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the setting is glibc's")
def test_large_tensors_are_not_faulted_in_again() -> None:
    found = {}
    for kind in ("usual", "kept"):
        command = [sys.executable, "-c", SCRIPT, kind]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        found[kind] = json.loads(done.stdout)
    assert found["kept"][0] is True
    assert found["usual"][0] is False
    # Forty tensors of 32 MiB are 8,192 pages of 4 KiB each time they are new; huge pages are few either way.
    assert found["kept"][1] < max(found["usual"][1] / 4, 4000)
