"""What the machine has: processors and GPUs, data sets, room for runs."""

from __future__ import annotations

import os
import shutil
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from idsnn_cli.doctor.libraries import PACKAGE, Check, Status, first_line, mending_command
from idsnn_cli.recipe.data_section import DATA_SETS, Data, DataNeeds, data_needs
from idsnn_cli.registry import entries
from idsnn_cli.results import Result

if TYPE_CHECKING:
    from idsnn_cli.data import DataPlan

if TYPE_CHECKING:
    from idsnn_cli.data import DataPlan

GB = 1e9
# Last and best checkpoints and the resume state of a ResNet-34 and a Spiking ResNet-18 take about 0.6 GB.
ROOMY, TIGHT = 2 * GB, 0.2 * GB
NVIDIA_DRIVER = Path("/proc/driver/nvidia/version")


@dataclass(frozen=True, slots=True)
class Device(Result):
    """What ``--device`` may name."""

    name: Annotated[str, "`cpu` or `cuda:N`"]
    model: Annotated[str | None, "the GPU's model; null for the CPU"] = None
    threads: Annotated[int | None, "that torch uses on the CPU; null for a GPU"] = None
    memory_bytes: Annotated[int | None, "a GPU's memory; null for the CPU"] = None
    free_bytes: Annotated[int | None, "of that, what is free; null for the CPU"] = None
    bf16: Annotated[bool, "whether trainings compute in bf16 by default"] = False


def check_devices() -> tuple[list[Check], list[Device]]:
    """The CPU and every GPU that torch can use, as lines and as data; without torch, none."""
    try:
        import torch

        from idsnn_cli.spiking.precision import native_bf16
    except Exception as error:  # a broken build raises whatever its libraries hit first
        found = f"torch cannot be imported: {first_line(error)}"
        return [Check("devices", "cpu", "missing", found, mending_command(force=True))], []
    threads = torch.get_num_threads()
    bf16 = native_bf16()
    found = f"{threads} threads on {_cores()} cores, {_cpu_words(bf16)}"
    checks = [Check("devices", "cpu", "ok", found)]
    devices = [Device("cpu", threads=threads, bf16=bf16)]
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        usable = torch.cuda.is_available()
        if usable:
            for index in range(torch.cuda.device_count()):
                check, device = _gpu(index)
                checks.append(check)
                devices += [device] if device else []
    remarks = [str(remark.message).strip().partition("\n")[0] for remark in said]
    if not usable:
        checks.append(_no_gpu(torch.version.cuda, remarks))
    else:
        fix = "pip install --upgrade torch torchvision"
        checks += [Check("devices", "torch says", "warn", remark, fix) for remark in dict.fromkeys(remarks)]
    return checks, devices


def _cpu_words(bf16: bool) -> str:
    """What trainings compute in, and whether by compiled loops."""
    if not bf16:
        return "in fp32"
    from idsnn_cli.spiking.compiled.maps import failure
    from idsnn_cli.spiking.neuron import loops_available

    if not loops_available():
        return f"in bf16, without compiled neurons (pip install '{PACKAGE}[fast]' makes training faster)"
    reason = failure()
    return "in bf16, with compiled neurons" if reason is None else f"in bf16; numba does not work: {reason}"


def _gpu(index: int) -> tuple[Check, Device | None]:
    import torch

    name = f"cuda:{index}"
    try:
        with torch.cuda.device(index):
            free, total = torch.cuda.mem_get_info(index)
            bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
            model = torch.cuda.get_device_name(index)
    except RuntimeError as error:
        return Check("devices", name, "warn", f"cannot be used: {first_line(error)}", "nvidia-smi"), None
    device = Device(name, model, memory_bytes=total, free_bytes=free, bf16=bf16)
    found = f"{model}, {free / GB:.1f} of {total / GB:.1f} GB free, "
    if bf16:
        return Check("devices", name, "ok", found + "in bf16"), device
    fix = "Add runtime.precision=fp16 (or fp32) to a command."
    return Check("devices", name, "warn", found + "without bf16 in hardware", fix), device


def _no_gpu(cuda: str | None, remarks: list[str]) -> Check:
    """Why torch finds no GPU; something to mend only where a driver shows that there is one."""
    if not NVIDIA_DRIVER.exists():
        return Check("devices", "cuda", "ok", "none: this machine has no NVIDIA driver; the CPU does all work")
    if cuda is None:
        found = "none: this torch was built without CUDA, though an NVIDIA driver is there"
        return Check("devices", "cuda", "warn", found, "pip install --force-reinstall torch torchvision")
    reason = remarks[0] if remarks else "torch finds no device"
    return Check("devices", "cuda", "warn", f"none, though an NVIDIA driver is there: {reason}", "nvidia-smi")


def _cores() -> int:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def check_data() -> list[Check]:
    """The folder of data sets and which of them are there: one that is not stops only its own recipes."""
    try:
        from idsnn_cli.data import data_root, plan_data
    except Exception as error:  # whatever a broken torch raises
        return [Check("data", "data root", "warn", f"not looked at: {first_line(error)}")]
    root = data_root(None)
    named = "named by IDSNN_DATA" if os.environ.get("IDSNN_DATA") else "IDSNN_DATA names no other"
    if root.is_dir():
        folder = Check("data", "data root", "ok", f"{root} ({named})")
    elif os.environ.get("IDSNN_DATA"):
        folder = Check("data", "data root", "warn", f"{root} ({named}) is not there", f"mkdir -p {root}")
    else:
        folder = Check("data", "data root", "ok", f"{root} ({named}), made by the first download")
    found = [name for name, needs in entries(DATA_SETS, DataNeeds).items() if not needs.path]
    return [folder, *(_data_set(name, plan_data) for name in found)]


def _data_set(name: str, plan_data: Callable[[Data], DataPlan]) -> Check:
    from idsnn_cli.errors import DataError

    try:
        plan = plan_data(Data.model_validate({"dataset": name, "download": data_needs(name).download}))
    except DataError as error:
        return Check("data", name, "warn", first_line(error), error.fix)
    except Exception as error:  # reading CIFAR imports torchvision, which may not fit torch
        return Check("data", name, "warn", f"not looked at: {first_line(error)}")
    if plan.missing:
        fix = f"idsnn run {name} data.download=true"
        return Check("data", name, "warn", f"not there; a download of {plan.download_mb:.0f} MB", fix)
    images = ", ".join(f"{count:,} {split}" for split, count in plan.counts.items())
    return Check("data", name, "ok", f"{images} images{'' if plan.files else ', in the package'}")


def check_disk(folder: Path) -> list[Check]:
    """Room and permission where run directories go; ``folder`` need not be there yet."""
    folder = folder.absolute()
    existing = next(path for path in (folder, *folder.parents) if path.is_dir())
    try:
        free = shutil.disk_usage(existing).free
    except OSError as error:
        return [Check("disk", "runs", "missing", f"{existing} cannot be looked at: {error.strerror}", "cd elsewhere")]
    found = f"{free / GB:.1f} GB free in {folder}"
    if not os.access(existing, os.W_OK | os.X_OK):
        fix = "cd to a folder of yours, or add --run-dir DIR to a command."
        return [Check("disk", "runs", "missing", f"{existing} is not yours to write in", fix)]
    if free < ROOMY:
        status: Status = "missing" if free < TIGHT else "warn"
        return [Check("disk", "runs", status, found, f"df -h {existing}")]
    return [Check("disk", "runs", "ok", found)]
