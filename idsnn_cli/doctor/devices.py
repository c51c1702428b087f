"""What the machine computes with: the CPU and the GPUs that torch can use."""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass
from importlib import metadata
from typing import Annotated

from idsnn_cli.doctor.apple import mps_disagreement, mps_usable
from idsnn_cli.doctor.libraries import PACKAGE, Check, first_line, mending_command
from idsnn_cli.errors import UsageError
from idsnn_cli.results import Result
from idsnn_cli.systems import nvidia_driver, usable_cores
from idsnn_cli.text import counted

GB = 1e9
# The paper's T, in which the kernels are looked at.
TIMESTEPS = 4


@dataclass(frozen=True, slots=True)
class Device(Result):
    """What ``--device`` may name."""

    name: Annotated[str, "`cpu`, `cuda:N` or `mps`"]
    model: Annotated[str | None, "the GPU's model; null for the CPU"] = None
    threads: Annotated[int | None, "that torch uses on the CPU; null for a GPU"] = None
    memory_bytes: Annotated[int | None, "a GPU's memory; null for the CPU"] = None
    free_bytes: Annotated[int | None, "of that, what is free; null for the CPU"] = None
    bf16: Annotated[bool, "whether trainings compute in bf16 by default"] = False
    kernels: Annotated[bool | None, "whether Triton's kernels are used on it; null for the CPU"] = None


def check_devices() -> tuple[list[Check], list[Device]]:
    """The CPU and every GPU that torch can use, as lines and as data; without torch, none."""
    try:
        import torch

        from idsnn_cli.spiking.precision import native_bf16
    except Exception as error:  # a broken build raises whatever its libraries hit first
        found = f"torch cannot be imported: {first_line(error)}"
        return [Check("devices", "cpu", "missing", found, mending_command(force=True))], []
    threads = torch.get_num_threads()
    wrong = _wrong_setting()
    bf16 = native_bf16()
    named = os.environ.get("OMP_NUM_THREADS")
    by = f" (OMP_NUM_THREADS={named})" if named else ""
    dtype = "bf16" if bf16 else "fp32"
    found = f"{counted(threads, 'thread')}{by} on {counted(usable_cores(), 'core')}, trainings in {dtype}"
    checks = [Check("devices", "cpu", "ok", found), *wrong]
    if bf16 and not wrong:
        checks.append(_loops())
    devices = [Device("cpu", threads=threads, bf16=bf16)]
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        usable = torch.cuda.is_available()
        if usable:
            for index in range(torch.cuda.device_count()):
                found_here, device = _gpu(index)
                checks += found_here
                devices += [device] if device else []
    remarks = _first_lines(said)
    if not usable:
        checks.append(_no_gpu(torch.version.cuda, remarks))
    else:
        fix = "pip install --upgrade torch torchvision"
        checks += [Check("devices", "torch says", "warn", remark, fix) for remark in dict.fromkeys(remarks)]
    if mps_usable():
        found_there, apple = _apple_gpu()
        checks.append(found_there)
        devices.append(apple)
    return checks, devices


def _apple_gpu() -> tuple[Check, Device]:
    import torch

    memory = torch.mps.recommended_max_memory()
    wrong = mps_disagreement()
    if wrong is not None:
        found = f"an Apple GPU that does not compute what the CPU does: {wrong}"
        check = Check("devices", "mps", "warn", found, "pip install --upgrade torch torchvision")
    else:
        check = Check("devices", "mps", "ok", f"an Apple GPU, {memory / GB:.1f} GB, in fp32; taken with --device mps")
    return check, Device("mps", memory_bytes=memory)


def _loops() -> Check:
    """Whether trainings in bf16 on the CPU have compiled neurons (the extra ``fast``)."""
    from idsnn_cli.spiking.compiled.maps import failure
    from idsnn_cli.spiking.kernels import SWITCH, loops_available, setting

    title = "kernels cpu"
    if setting() == "0":
        return Check("devices", title, "ok", f"not used: {SWITCH} is 0 in the environment")
    if not loops_available():
        fix = f"pip install '{PACKAGE}[fast]'"
        return Check("devices", title, "warn", "neurons are not compiled; with numba trainings are faster", fix)
    reason = failure()
    if reason is not None:
        fix = "pip install --upgrade numba"
        return Check("devices", title, "warn", f"neurons are not compiled, for numba does not work: {reason}", fix)
    return Check("devices", title, "ok", f"neurons are compiled by numba {metadata.version('numba')}")


def _gpu(index: int) -> tuple[list[Check], Device | None]:
    import torch

    name = f"cuda:{index}"
    try:
        with torch.cuda.device(index):
            free, total = torch.cuda.mem_get_info(index)
            bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
            model = torch.cuda.get_device_name(index)
    except RuntimeError as error:
        return [Check("devices", name, "warn", f"cannot be used: {first_line(error)}", "nvidia-smi")], None
    kernels = _kernels(name, bf16)
    device = Device(name, model, memory_bytes=total, free_bytes=free, bf16=bf16, kernels=kernels.status == "ok")
    found = f"{model}, {free / GB:.1f} of {total / GB:.1f} GB free, "
    words = "in bf16" if bf16 else "in fp16, for it has no bf16 in hardware"
    return [Check("devices", name, "ok", found + words), kernels], device


def _kernels(name: str, bf16: bool) -> Check:
    """Whether Triton's kernels are used on a GPU: compiled and compared with plain PyTorch, in the paper's neuron."""
    import torch

    from idsnn_cli.architecture import Neuron
    from idsnn_cli.spiking.kernels import verdict

    title = f"kernels {name}"
    dtype = torch.bfloat16 if bf16 else torch.float16
    try:
        found = verdict(torch.device(name), dtype, Neuron(), TIMESTEPS)
    except UsageError as error:
        return Check("devices", title, "warn", first_line(error), error.fix)
    if found.used:
        return Check("devices", title, "ok", found.reason or "Triton's kernels give what plain PyTorch gives")
    return Check("devices", title, "warn", f"not used, plain PyTorch computes: {found.reason}", found.fix)


def _wrong_setting() -> list[Check]:
    """The environment's word on the kernels, where commands would refuse it."""
    from idsnn_cli.spiking.kernels import SWITCH, setting

    try:
        setting()
    except UsageError as error:
        return [Check("devices", SWITCH, "missing", error.message, f"unset {SWITCH}")]
    return []


def find_gpu() -> tuple[bool, str | None]:
    """Whether torch can use a GPU, and in words why not although the machine has an NVIDIA driver."""
    import torch

    with warnings.catch_warnings(record=True) as said:
        # Torch says what is wrong with a driver the first time only.
        warnings.simplefilter("always")
        usable = torch.cuda.is_available()
    if usable:
        return True, None
    check = _no_gpu(torch.version.cuda, _first_lines(said))
    return False, check.found.removeprefix("none: ").removeprefix("none, ") if check.status != "ok" else None


def _no_gpu(cuda: str | None, remarks: list[str]) -> Check:
    """Why torch finds no GPU; something to mend only where a driver shows that there is one."""
    if not nvidia_driver():
        return Check("devices", "cuda", "ok", "none: this machine has no NVIDIA driver; the CPU does all work")
    if cuda is None:
        found = "none: this torch was built without CUDA, though an NVIDIA driver is there"
        return Check("devices", "cuda", "warn", found, "pip install --force-reinstall torch torchvision")
    reason = remarks[0] if remarks else "torch finds no device"
    return Check("devices", "cuda", "warn", f"none, though an NVIDIA driver is there: {reason}", "nvidia-smi")


def _first_lines(said: list[warnings.WarningMessage]) -> list[str]:
    return [str(remark.message).strip().partition("\n")[0] for remark in said]
