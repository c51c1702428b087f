"""What a training says of what it is computed in, and the compiling that must come before its clock."""

from __future__ import annotations

from time import perf_counter

import torch

from idsnn_cli.pipeline.workspace import Workspace
from idsnn_cli.spiking.compiled.maps import failure
from idsnn_cli.spiking.kernels import loops_available, setting
from idsnn_cli.spiking.precision import AMP_DTYPES
from idsnn_cli.text import counted

# Reading loops from numba's cache takes less, in seconds.
COMPILED_ANEW = 4


def tell_of_precision(workspace: Workspace) -> None:
    """Say, once, that trainings are not computed in float32, and on a CPU what makes them faster there.

    Loops are compiled here, so that a first epoch's seconds are not those of the compiler.
    """
    if workspace.precision not in AMP_DTYPES:
        return
    words = f"trainings are computed in {workspace.precision} on {workspace.device}"
    if workspace.device.type == "cpu":
        words += f" by {counted(torch.get_num_threads(), 'thread')}, {_loops()}"
    workspace.say_once(words)


def _loops() -> str:
    """Whether neurons are compiled, and how long that took where it was long."""
    if not loops_available():
        hint = "" if setting() == "0" else " (pip install 'idsnn-cli[fast]' makes them faster)"
        return f"without compiled neurons{hint}"
    start = perf_counter()
    reason = failure()
    if reason is not None:
        return f"without compiled neurons, for numba does not work: {reason}"
    took = perf_counter() - start
    once = f", which took {took:.0f} s, once on this machine" if took > COMPILED_ANEW else ""
    return f"with compiled neurons{once}"
