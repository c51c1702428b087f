"""The kernels compiled for an H100 without one: Triton needs no GPU to make its machine code."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from triton_cases import ROOT, needs_triton

pytestmark = [needs_triton, pytest.mark.slow]
# In a process of its own: where TRITON_INTERPRET is set, nothing compiles.
PROGRAM = """
import re, subprocess, sys
from pathlib import Path
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from idsnn_cli.spiking.triton import chain_kernels, neuron_kernels, norm_kernels
from idsnn_cli.spiking.triton.launch import OPTIONS

maps = ("x", "residual", "spikes", "grad", "dx", "d_residual")
numbers = ("decay", "theta", "scale", "peak", "eps", "momentum")
whole = ("size", "last", "state_last", "step", "x_step", "x_last", "pixels", "channels", "inner", "each", "parts",
         "repeat")
settings = dict(STEPS=4, KEEP=True, BLOCK=1024, SURROGATE="rectangle", SEGMENT=4, RESIDUAL=True, REPEAT=False,
                NHWC=True, BLOCK_ROWS=16, BLOCK_COLUMNS=64, FINAL=True, AVERAGE=True, BLOCK_PARTS=16, CENTRE=True)
tool = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
wanted = [
    (neuron_kernels.lif_backward_smooth, {"SURROGATE": "sigmoid", "STEPS": 6}),
    (norm_kernels.partial_statistics, {}),
    (chain_kernels.chain_forward, {}),
    (chain_kernels.chain_reduce, {"SURROGATE": "dspike"}),
]
for kernel, changes in wanted:
    signature, constants, attributes = {}, {}, {}
    for i, parameter in enumerate(kernel.params):
        name = parameter.name
        if parameter.is_constexpr:
            signature[name], constants[(i,)] = "constexpr", (settings | changes)[name]
        elif name in numbers:
            signature[name] = "fp32"
        else:
            signature[name] = "*bf16" if name in maps else "*u8" if name == "state" else "*i64" if name == "counted" \
                else "i32" if name in whole else "*fp32"
            if name not in ("each", "parts", "repeat"):
                attributes[(i,)] = [["tt.divisibility", 16]]
    source = ASTSource(kernel, signature, constants, attributes)
    made = triton.compile(source, target=GPUTarget("cuda", 90, 32), options=dict(OPTIONS))
    binary = Path(sys.argv[1]) / "kernel.cubin"
    binary.write_bytes(made.asm["cubin"])
    def dump(word):
        return subprocess.run([tool, word, binary], capture_output=True, text=True, check=True).stdout
    fused = len(re.findall(r"\\bFFMA\\b", dump("-sass")))
    stack = re.search(r"STACK:(\\d+)", dump("-res-usage")).group(1)
    wide = len(re.findall(r"ld\\.global\\S*\\.v4", made.asm["ptx"]))
    print(kernel.__name__, fused, stack, wide)
"""


def has_tools() -> bool:
    import triton

    tools = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"
    return all((tools / name).exists() for name in ("ptxas", "cuobjdump"))


def test_for_an_h100(tmp_path: Path) -> None:
    """No fused multiply-add, nothing spilled to memory, 16 bytes a load."""
    if not has_tools():
        pytest.skip("this Triton brings no ptxas")
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment |= {"TRITON_CACHE_DIR": str(tmp_path / "cache"), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path)], capture_output=True, text=True, check=False, env=environment
    )
    assert done.returncode == 0, done.stderr
    found = {name: [int(n) for n in numbers] for name, *numbers in (line.split() for line in done.stdout.splitlines())}
    assert len(found) == 4
    for name, (fused, stack, wide) in found.items():
        assert stack == 0, name
        assert fused == 0, name
        assert wide > 0, name


def test_the_options_forbid_fusion_everywhere() -> None:
    """Every launch in the package spreads OPTIONS, which forbid it."""
    folder = ROOT / "idsnn_cli" / "spiking" / "triton"
    for file in folder.glob("*.py"):
        text = file.read_text()
        launches = len(re.findall(r"^\s+\w+\[[^\n]*\]\(\n", text, re.MULTILINE))
        assert launches <= text.count("**OPTIONS") + text.count("**settings"), file.name
