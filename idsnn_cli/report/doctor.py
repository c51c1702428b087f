"""Everything that ``doctor`` looks at, in one document."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from idsnn_cli.report.installation import check_torch, check_versions
from idsnn_cli.report.machine import check_data, check_devices, check_disk


def examine(runs: Path = Path("runs")) -> dict[str, Any]:
    """Look at the installation and the machine; ``runs`` is where run directories would go.

    Keys: ``ready``, False where a check is ``missing``; ``checks``, each with its ``group`` (versions, devices, data,
    disk), ``name``, ``status`` (ok, warn, missing), ``found`` and ``fix`` (None where all is well); ``devices``, each
    with its ``name``, ``model``, ``threads``, ``memory_bytes``, ``free_bytes`` and ``bf16`` (what ``--device`` would
    compute in by default). Raises nothing: a library that cannot be imported is what it is there to find.
    """
    checks = [*check_versions(), *check_torch()]
    device_checks, devices = check_devices()
    checks += [*device_checks, *check_data(), *check_disk(runs)]
    return {
        "ready": all(check.status != "missing" for check in checks),
        "checks": [asdict(check) for check in checks],
        "devices": devices,
    }
