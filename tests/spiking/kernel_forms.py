"""The kernels in the forms that their launchers use, compiled without a GPU: Triton needs none to make machine code.

    python kernel_forms.py FOLDER   # compiles the forms of FORMS and prints a line of JSON for each

The launchers run on meta tensors, and each launch is noted exactly as Triton's own launcher would specialise it: types,
constants, and which numbers and pointers are multiples of 16. In a process of its own, in which nothing is launched.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from triton.compiler.compiler import make_backend
from triton.runtime import jit

from idsnn_cli.architecture import Neuron
from idsnn_cli.spiking import BatchNorm
from idsnn_cli.spiking.surrogates import surrogate as surrogate_of

META = torch.device("meta")
TOOLS = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"
BF16, FP16, FP32 = torch.bfloat16, torch.float16, torch.float32


@dataclass(frozen=True)
class Launch:
    """One launch as Triton specialises it."""

    kernel: Any
    signature: dict[str, str]
    constants: dict[str, Any]
    divisible: tuple[str, ...]
    options: dict[str, Any]

    @property
    def name(self) -> str:
        return str(self.kernel.fn.__name__)

    def compile(self, architecture: int) -> Any:
        names = [parameter.name for parameter in self.kernel.params]
        constants = {(names.index(name),): value for name, value in self.constants.items()}
        attributes = {(names.index(name),): [["tt.divisibility", 16]] for name in self.divisible}
        source = ASTSource(self.kernel, dict(self.signature), constants, attributes)
        return triton.compile(source, target=GPUTarget("cuda", architecture, 32), options=dict(self.options))


@contextmanager
def noted() -> Iterator[list[Launch]]:
    """Every launch within the block, which launches nothing."""
    backend = make_backend(GPUTarget("cuda", 90, 32))
    found: list[Launch] = []
    binders: dict[Any, Any] = {}

    def run(self: Any, *args: Any, grid: Any, warmup: bool, **settings: Any) -> None:
        if self not in binders:
            binders[self] = jit.create_function_from_signature(self.signature, self.params, backend)
        options = {key: value for key, value in settings.items() if key in ("enable_fp_fusion", "num_warps")}
        bound, specialised, _ = binders[self](*args, **{"debug": False, "instrumentation_mode": ""} | settings)
        kinds = dict(zip([parameter.name for parameter in self.params], specialised, strict=True))
        found.append(
            Launch(
                self,
                {name: kind for name, (kind, _) in kinds.items()},
                {name: bound[name] for name, (kind, _) in kinds.items() if kind == "constexpr"},
                tuple(name for name, (_, hint) in kinds.items() if isinstance(hint, str) and "D" in hint),
                options,
            )
        )

    launched = jit.JITFunction.run
    jit.JITFunction.run = run
    try:
        yield found
    finally:
        jit.JITFunction.run = launched


def neuron(surrogate: str, *, full: bool = False, soft: bool = False) -> Neuron:
    scale = surrogate_of(surrogate).default
    gradient: Any = "full" if full else "detached"
    if soft:
        return Neuron(1.0, 1.0, surrogate, scale, reset="soft", start="half", reset_gradient=gradient)
    return Neuron(0.5, 0.25, surrogate, scale, reset_gradient=gradient)


def chain(
    dtype: torch.dtype,
    steps: int = 4,
    surrogate: str = "rectangle",
    *,
    full: bool = False,
    soft: bool = False,
    residual: bool = False,
    repeat: bool = False,
    nhwc: bool = True,
    shape: tuple[int, int, int, int] = (64, 64, 32, 32),
) -> None:
    """A training step of BatchNorm, perhaps an addition, and neuron over T maps (N, C, H, W)."""
    from idsnn_cli.spiking.triton.chain import fused_fire

    n, channels, height, width = shape
    layout = torch.channels_last if nhwc else torch.contiguous_format
    maps = torch.empty(n if repeat else n * steps, channels, height, width, dtype=dtype, device=META)
    x = torch.empty_like(maps, memory_format=layout).requires_grad_()
    around = torch.empty_like(x).requires_grad_() if residual else None
    spikes = fused_fire(
        BatchNorm(channels).to(META), neuron(surrogate, full=full, soft=soft), steps, x, around, steps if repeat else 1
    )
    torch.autograd.backward(spikes, torch.empty_like(spikes))


def layer(dtype: torch.dtype, steps: int = 4, surrogate: str = "rectangle", *, soft: bool = False) -> None:
    """A training step of the neuron alone over (T, 64, 64, 32, 32)."""
    from idsnn_cli.spiking.triton.neuron import fused_lif

    x = torch.empty((steps, 64, 64, 32, 32), dtype=dtype, device=META).requires_grad_()
    spikes = fused_lif(x, neuron(surrogate, full=soft, soft=soft))
    torch.autograd.backward(spikes, torch.empty_like(spikes))


# Of each the launches whose kernels are named, compiled for the architecture.
EVERY = ("partial_statistics", "combine_statistics", "chain_forward", "chain_reduce", "chain_apply")
BACKWARD = ("chain_reduce", "chain_apply")
FORMS: list[tuple[int, Callable[[], None], tuple[str, ...]]] = [
    # The paper's step on each kind of GPU, in the dtype that it trains in.
    (75, lambda: chain(FP16, residual=True), EVERY),
    (80, lambda: chain(BF16), EVERY),
    (90, lambda: chain(BF16, residual=True), EVERY),
    (120, lambda: chain(BF16, residual=True), EVERY),
    (90, lambda: layer(BF16), ("lif_forward", "lif_backward_bits")),
    (120, lambda: layer(FP32), ("lif_forward", "lif_backward_bits")),
    (80, lambda: layer(FP32, surrogate="sigmoid"), ("lif_backward_membrane",)),
    # Another surrogate, the full gradient of the reset, a repeated map, NCHW, few channels, more steps than a segment.
    (75, lambda: chain(FP16, surrogate="arctan"), ("chain_apply",)),
    (80, lambda: chain(BF16, full=True), BACKWARD),
    # The neuron of presets/lossless, whose gradient its bits tell.
    (80, lambda: chain(BF16, full=True, soft=True), ("chain_forward", *BACKWARD)),
    (90, lambda: chain(BF16, full=True, soft=True, residual=True), ("chain_forward", *BACKWARD)),
    (90, lambda: layer(BF16, soft=True), ("lif_forward", "lif_backward_bits")),
    (120, lambda: chain(BF16, 6, "sigmoid", full=True, soft=True), BACKWARD),
    (90, lambda: chain(FP32, repeat=True), ("chain_forward", "chain_apply")),
    (90, lambda: chain(BF16, 6, "dspike", residual=True), ("chain_apply",)),
    (120, lambda: chain(BF16, 32, "sigmoid", full=True), ("chain_reduce",)),
    (120, lambda: chain(FP32, nhwc=False, shape=(2, 3, 5, 7)), ("chain_forward", "chain_apply")),
    (80, lambda: chain(BF16, 32, nhwc=False), ("chain_forward", "chain_apply")),
]


def read(made: Any, folder: Path) -> dict[str, Any]:
    """What the machine code of a compiled kernel shows."""
    binary = folder / "kernel.cubin"
    binary.write_bytes(made.asm["cubin"])

    def dump(word: str) -> str:
        done = subprocess.run([TOOLS / "cuobjdump", word, binary], capture_output=True, text=True, check=True)
        return done.stdout

    sass, usage = dump("-sass"), dump("-res-usage")
    operations = re.findall(r"^\s+/\*[0-9a-f]{4,5}\*/\s+(?:@!?U?P\w+\s+)?([A-Z][\w.]*)", sass, re.MULTILINE)
    counted = Counter(operation.split(".")[0] for operation in operations)
    numbers = {word: int(found[1]) for word in ("REG", "STACK") if (found := re.search(rf"{word}:(\d+)", usage))}
    return {
        "registers": numbers["REG"],
        "stack": numbers["STACK"],
        "fused": sum(count for name, count in counted.items() if name in ("FFMA", "FFMA2", "FFMA32I")),
        # Of a division or a square root the machine code has some; PTX shows what Triton fused.
        "fused_ptx": len(re.findall(r"\bfma\.rn", made.asm["ptx"])),
        "wide": len([name for name in operations if name.startswith(("LDG", "STG")) and ".128" in name]),
        "instructions": len(operations),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    for architecture, work, wanted in FORMS:
        with noted() as launches:
            work()
        for launch in launches:
            if launch.name in wanted:
                made = launch.compile(architecture)
                line = {"architecture": architecture, "kernel": launch.name, "constants": launch.constants}
                sys.stdout.write(json.dumps({**line, **read(made, folder)}) + "\n")
                sys.stdout.flush()


if __name__ == "__main__":
    main()
