"""The kernels compiled for four kinds of GPU without one, in the forms that their launchers use (kernel_forms.py)."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from triton_cases import ROOT, needs_triton

pytestmark = needs_triton
PROGRAM = Path(__file__).parent / "kernel_forms.py"
CHAIN = {"partial_statistics", "combine_statistics", "chain_forward", "chain_reduce", "chain_apply"}
NEURON = {"lif_forward", "lif_backward_bits", "lif_backward_membrane"}
# The first ptxas that leaves the products and sums of Blackwell's pairs apart when it is told to.
CLEAN_ON_BLACKWELL = (13, 3)


def tools() -> Path:
    import triton

    return Path(triton.__file__).parent / "backends" / "nvidia" / "bin"


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    if not all((tools() / name).exists() for name in ("ptxas", "cuobjdump")):
        pytest.skip("this Triton brings no ptxas")
    folder = tmp_path_factory.mktemp("kernels")
    # In a process of its own: where TRITON_INTERPRET is set, nothing compiles.
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment |= {"TRITON_CACHE_DIR": str(folder / "cache"), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(PROGRAM), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.slow
@pytest.mark.parametrize("architecture", [75, 80, 90, 120])
def test_nothing_is_spilled_and_no_multiply_add_is_fused(found: list[dict[str, Any]], architecture: int) -> None:
    mine = [each for each in found if each["architecture"] == architecture]
    assert {each["kernel"] for each in mine} >= CHAIN
    pairs = architecture >= 100 and version_of_ptxas() < CLEAN_ON_BLACKWELL
    for each in mine:
        assert each["stack"] == 0, each
        assert each["fused_ptx"] == 0, each
        # The combination divides and takes roots, in code of their own. Where ptxas fuses, the self-check finds it.
        if each["kernel"] != "combine_statistics" and not pairs:
            assert each["fused"] == 0, each


@pytest.mark.slow
def test_all_kernels_are_compiled_and_read_and_write_16_bytes(found: list[dict[str, Any]]) -> None:
    assert {each["kernel"] for each in found} == CHAIN | NEURON
    for each in found:
        nhwc = each["constants"].get("NHWC", True) and each["kernel"] != "combine_statistics"
        assert each["wide"] > 0 or not nhwc, each


@pytest.mark.slow
def test_the_machine_code_does_not_grow_with_time(found: list[dict[str, Any]]) -> None:
    """Thirty-two steps are a loop over eight: three times the machine code of four, not eight times."""
    long = [each for each in found if steps(each) == 32]
    assert {each["kernel"] for each in long} == {"chain_forward", "chain_reduce", "chain_apply"}
    for each in long:
        four = [other["instructions"] for other in found if other["kernel"] == each["kernel"] and steps(other) == 4]
        assert each["instructions"] < 3 * min(four), each


def steps(each: dict[str, Any]) -> int | None:
    found: int | None = each["constants"].get("STEPS")
    return found


def version_of_ptxas() -> tuple[int, ...]:
    """Of the one that Triton takes for Blackwell."""
    name = next(name for name in ("ptxas-blackwell", "ptxas") if (tools() / name).exists())
    said = subprocess.run([tools() / name, "--version"], capture_output=True, text=True, check=True).stdout
    release = re.search(r"release (\d+)\.(\d+)", said)
    assert release is not None
    return tuple(map(int, release.groups()))


def test_the_options_forbid_fusion_everywhere() -> None:
    """Every launch in the package spreads OPTIONS, which forbid it."""
    folder = ROOT / "idsnn_cli" / "spiking" / "triton"
    launches = 0
    for file in folder.glob("*.py"):
        text = file.read_text()
        here = len(re.findall(r"^\s+\w+\[[^\n]*\]\(\n", text, re.MULTILINE))
        assert here <= text.count("**OPTIONS") + text.count("**settings"), file.name
        launches += here
    assert launches == 8
