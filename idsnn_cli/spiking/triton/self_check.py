"""The kernels against plain PyTorch on one device: small random maps, forward, backward, and one captured step.

Spikes are compared exactly: the neuron's with the reference, the chain's with the formula in its own roundings, on maps
that a fused multiply-add would carry across the threshold. With statistics of the batch the yardstick is float64, on
maps that keep clear of the threshold. The reference runs on the CPU, where nothing of the device can reach it.
"""

from __future__ import annotations

import subprocess
import sysconfig
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from shutil import which
from threading import Thread

import torch
from torch import Tensor

from idsnn_cli.architecture import Neuron
from idsnn_cli.spiking.norm import BatchNorm
from idsnn_cli.spiking.reference import lif_reference
from idsnn_cli.spiking.triton import check_maps
from idsnn_cli.spiking.triton.check_maps import Maps
from idsnn_cli.spiking.verdict import Verdict

Results = dict[str, Tensor]
BLACKWELL, CLEAN_PTXAS = (10, 0), (13, 3)
CONTRACTED = "multiply-adds are contracted, which carries spikes across the threshold"
PTXAS = "export TRITON_PTXAS_PATH=PTXAS TRITON_PTXAS_BLACKWELL_PATH=PTXAS  # one of CUDA 13.3 or later does not"


@dataclass(frozen=True, slots=True)
class Launchers:
    """What is checked: ``lif`` as :func:`idsnn_cli.spiking.triton.neuron.fused_lif`, ``fire`` as
    :func:`idsnn_cli.spiking.triton.chain.fused_fire`, and ``capture``, which does its work once in a captured graph,
    None where there are no graphs.
    """

    lif: Callable[[Tensor, Neuron], Tensor]
    fire: Callable[[BatchNorm, Neuron, int, Tensor, Tensor | None, int], Tensor]
    capture: Callable[[Callable[[], Results]], Results] | None


def launchers(device: torch.device) -> Launchers:
    """The package's own, on ``device``."""
    from idsnn_cli.spiking.triton.chain import fused_fire
    from idsnn_cli.spiking.triton.neuron import fused_lif

    def capture(work: Callable[[], Results]) -> Results:
        graph, stream = torch.cuda.CUDAGraph(), torch.cuda.Stream(device)  # type: ignore[no-untyped-call]  # torch's
        # Another thread of the caller's may be allocating.
        with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
            results = work()
        graph.replay()
        # The graph goes with this call.
        torch.cuda.synchronize(device)
        return results

    return Launchers(fused_lif, fused_fire, capture if device.type == "cuda" else None)


def examine(device: torch.device, dtype: torch.dtype, neuron: Neuron, timesteps: int) -> Verdict:
    """Compare the kernels of ``neuron`` over ``timesteps`` steps of maps in ``dtype`` on ``device``.

    Raises nothing: whatever fails is the verdict. In a thread of its own, which the caller's autograd mode, autocast,
    hooks and streams do not reach.
    """
    found = [Verdict(False, "the check ended without a result")]

    def look() -> None:
        try:
            with warnings.catch_warnings(), torch.cuda.device(device) if device.type == "cuda" else nullcontext():
                # Where warnings are errors, one of a library's is no reason to do without kernels.
                warnings.simplefilter("ignore")
                own = launchers(device)
                differences = _differences(own, Maps(device, dtype, neuron, timesteps))
                found[0] = contracting_ptxas(device) or next(differences, Verdict(True))
        except Exception as error:  # compilers, drivers and file systems raise what they like
            found[0] = failure(error)

    thread = Thread(target=look, name="idsnn-self-check", daemon=True)
    thread.start()
    thread.join()
    return found[0]


def contracting_ptxas(device: torch.device) -> Verdict | None:
    """A verdict on Blackwell, whose pairs of products and sums an older ptxas fuses although it is told not to.

    Seen in the machine code of 12.9, and not in that of 13.3 (sm_100, sm_120). The comparison would find it, too, but
    not in a form of a kernel that it does not run.
    """
    capability = torch.cuda.get_device_capability(device) if device.type == "cuda" else (0, 0)
    if capability < BLACKWELL:
        return None
    try:
        from triton.backends.nvidia.compiler import get_ptxas

        version = str(get_ptxas(10 * capability[0] + capability[1]).version)
        told = tuple(int(part) for part in version.split("."))
    except (ImportError, AttributeError, ValueError):  # another Triton: the comparison is left
        return None
    if told >= CLEAN_PTXAS:
        return None
    where = f"ptxas {version} on compute capability {capability[0]}.{capability[1]}"
    return Verdict(False, f"{CONTRACTED} ({where})", PTXAS)


def _differences(own: Launchers, maps: Maps) -> Iterator[Verdict]:
    """A verdict for each comparison that fails, in order."""
    x, grad = maps.currents()
    spikes, dx = _gradients(lambda leaf: own.lif(leaf, maps.neuron), x, grad, maps)
    wanted, wanted_dx = _gradients(lambda leaf: lif_reference(leaf, maps.neuron), x, grad, None)
    yield from _differ("the neuron's spikes", spikes, wanted, exact=True)
    yield from _differ("the neuron's gradients", dx, wanted_dx, exact=maps.exact_gradients, tolerance=maps.tolerance)
    # Constant statistics: every rounding is known.
    constant = maps.at_the_threshold()
    found, formula = maps.run(own.fire, constant, training=False), check_maps.by_formula(maps, constant)
    if not torch.equal(found["spikes"].cpu(), formula["spikes"]):
        once = check_maps.by_formula(maps, constant, contracted=True)
        if torch.equal(found["spikes"].cpu(), once["spikes"]):
            yield Verdict(False, CONTRACTED, PTXAS)
    yield from _differ("spikes behind constant statistics", found["spikes"], formula["spikes"], exact=True)
    yield from _all_differ("with constant statistics", found, formula, maps)
    # Statistics of the batch.
    batch = maps.clear_of_the_threshold()
    found, formula = maps.run(own.fire, batch, training=True), check_maps.in_float64(maps, batch)
    yield from _differ("spikes behind BatchNorm", found["spikes"], formula["spikes"], exact=True)
    yield from _all_differ("with statistics of the batch", found, formula, maps)
    if own.capture is not None:
        again = own.capture(maps.step(own.fire, batch))
        for name, value in again.items():
            yield from _differ(f"{name} of a captured step", value, found[name], exact=True)


def _gradients(work: Callable[[Tensor], Tensor], x: Tensor, grad: Tensor, maps: Maps | None) -> tuple[Tensor, Tensor]:
    """The spikes of ``work`` over ``x``, and the gradient of ``x``, on the CPU."""
    leaf = (x if maps is None else x.to(maps.device)).detach().requires_grad_()
    spikes = work(leaf)
    (dx,) = torch.autograd.grad(spikes, leaf, grad.to(leaf.device))
    return spikes.detach().cpu(), dx.cpu()


def _all_differ(where: str, found: Results, wanted: Results, maps: Maps) -> Iterator[Verdict]:
    for name, value in wanted.items():
        if name != "spikes":
            yield from _differ(f"{name} {where}", found[name], value, exact=False, tolerance=maps.tolerance)


def _differ(what: str, found: Tensor, wanted: Tensor, *, exact: bool, tolerance: float = 0.0) -> Iterator[Verdict]:
    """A verdict where the two differ: at all, or by more than ``tolerance`` of the largest value."""
    mine, other = found.detach().cpu().double(), wanted.detach().cpu().double()
    if mine.shape != other.shape:
        yield Verdict(False, f"{what} have the shape {list(mine.shape)} instead of {list(other.shape)}")
        return
    gap = (mine - other).abs()
    if exact:
        wrong = int((mine != other).sum())
        if wrong:
            yield Verdict(False, f"{what} differ from plain PyTorch's in {wrong:,} of {other.numel():,} places")
        return
    bound = tolerance * float(other.abs().max())
    # A comparison that NaN fails.
    if not bool((gap <= bound).all()):
        yield Verdict(False, f"{what} differ from plain PyTorch's by {float(gap.max()):.3g}, more than {bound:.3g}")


def failure(error: BaseException) -> Verdict:
    """What kept the kernels from being made or run, and what mends it where that is known."""
    lines: Sequence[str] = str(error).strip().splitlines()
    reason = f"{type(error).__name__}: {lines[0].strip()}" if lines else type(error).__name__
    if isinstance(error, subprocess.CalledProcessError) or "compiler" in reason.lower():
        if not any(which(name) for name in ("cc", "gcc", "clang")):
            return Verdict(False, f"there is no C compiler, with which Triton makes its launchers ({reason})",
                           "sudo apt install gcc  # or name one: export CC=COMPILER")  # fmt: skip
        if not (Path(sysconfig.get_paths()["include"]) / "Python.h").exists():
            return Verdict(False, f"Python.h is not there, with which Triton makes its launchers ({reason})",
                           "sudo apt install python3-dev")  # fmt: skip
    if isinstance(error, OSError):
        return Verdict(False, reason, "export TRITON_CACHE_DIR=DIR  # a folder that can be written in")
    return Verdict(False, f"they cannot be compiled or run here: {reason}")
