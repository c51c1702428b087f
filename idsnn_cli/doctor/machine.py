"""What the machine has beside its devices: data sets, room for runs."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from idsnn_cli.doctor.libraries import Check, Status, first_line
from idsnn_cli.recipe.data_section import DATA_SETS, Data, DataNeeds, data_needs
from idsnn_cli.registry import entries

if TYPE_CHECKING:
    from idsnn_cli.data import DataPlan

GB = 1e9
# Last and best checkpoints and the resume state of a ResNet-34 and a Spiking ResNet-18 take about 0.6 GB.
ROOMY, TIGHT = 2 * GB, 0.2 * GB


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
    found = [name for name, needs in entries(DATA_SETS, DataNeeds).items() if not (needs.path or needs.shards)]
    return [folder, *(_data_set(name, plan_data) for name in found)]


def _data_set(name: str, plan_data: Callable[[Data], DataPlan]) -> Check:
    from idsnn_cli.errors import DataError

    needs = data_needs(name)
    # Recordings are binned as a recipe says, and here they are only looked for.
    frames = {"frames": 1} if needs.frames else {}
    try:
        plan = plan_data(Data.model_validate({"dataset": name, "download": needs.download, **frames}))
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
        fix = "Go to a folder of yours, or add --run-dir DIR to a command."
        return [Check("disk", "runs", "missing", f"{existing} is not yours to write in", fix)]
    if free < ROOMY:
        status: Status = "missing" if free < TIGHT else "warn"
        return [Check("disk", "runs", status, found, f"df -h {existing}")]
    return [Check("disk", "runs", "ok", found)]
