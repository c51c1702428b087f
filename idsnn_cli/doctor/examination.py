"""Everything that ``doctor`` looks at, in one document."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from idsnn_cli.doctor.devices import Device, check_devices
from idsnn_cli.doctor.libraries import Check, check_torch, check_versions
from idsnn_cli.doctor.machine import check_data, check_disk
from idsnn_cli.results import Result


@dataclass(frozen=True, slots=True)
class Examination(Result):
    """The document of ``idsnn doctor``."""

    ready: Annotated[bool, "false where a check is `missing`; the exit code is then 1"]
    checks: Annotated[tuple[Check, ...], "everything that was looked at"]
    devices: Annotated[tuple[Device, ...], "the CPU and every GPU that torch can use"]


def examine(runs: Path = Path("runs")) -> Examination:
    """Look at the installation and the machine; ``runs`` is where run directories would go.

    Raises nothing: a library that cannot be imported is what it is there to find.
    """
    checks = [*check_versions(), *check_torch()]
    device_checks, devices = check_devices()
    checks += [*device_checks, *check_data(), *check_disk(runs)]
    return Examination(all(check.status != "missing" for check in checks), tuple(checks), tuple(devices))
