"""Jobs of a SLURM cluster, by submitit."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from idsnn_cli.cli.launchers import Launched, Launcher, whole
from idsnn_cli.cli.launchers._submitted import submit
from idsnn_cli.errors import MissingPackageError, UsageError
from idsnn_cli.extras import require_extra

# Often enough that a run of weeks ends, though each job may be cut short.
_REQUEUES = 1000


class Slurm(Launcher):
    """Each job is its own; one that is preempted or whose time is up saves, is requeued by submitit, and goes on."""

    extra = "slurm"
    keys: Mapping[str, str] = {
        "time": "of each job, in minutes or as [D-]HH:MM:SS",
        "partition": "the partition",
        "gpus": "GPUs of each job",
        "cpus": "cores of each job",
        "mem": "memory of each job, 32G",
    }
    open = True

    def require(self, resources: Mapping[str, str]) -> None:
        require_extra(self.extra, "--launcher slurm", "submitit")
        self.parameters(resources)
        if shutil.which("sbatch") is None or shutil.which("srun") is None:
            raise MissingPackageError(
                "--launcher slurm needs SLURM's sbatch and srun, which are not here",
                "Run it where jobs are submitted, or take --jobs N.",
            )

    def launch(self, commands: Sequence[Sequence[str]], logs: Sequence[Path], resources: Mapping[str, str]) -> Launched:
        import submitit

        executor = submitit.AutoExecutor(logs[0].parent / "slurm", cluster="slurm", slurm_max_num_timeout=_REQUEUES)
        executor.update_parameters(**self.parameters(resources))
        return submit(executor, commands, logs)

    def parameters(self, resources: Mapping[str, str]) -> dict[str, Any]:
        """``resources`` in submitit's words; other keys become sbatch's. Raises :class:`UsageError` for a wrong one."""
        if "time" not in resources:
            raise UsageError("--launcher slurm does not know how long a job may take", "Add --resource time=MINUTES.")
        mem = resources.get("mem")
        if mem is not None and not re.fullmatch(r"\d+[KMGT]?B?", mem):
            raise UsageError(f"--resource mem={mem} is no size", "Give it as mem=32G.")
        given = {
            "name": "idsnn",
            "slurm_time": minutes(resources["time"]),
            "slurm_partition": resources.get("partition"),
            "gpus_per_node": whole(resources, "gpus", 0),
            "cpus_per_task": whole(resources, "cpus"),
            "slurm_mem": mem,
            "slurm_additional_parameters": {key: value for key, value in resources.items() if key not in self.keys},
        }
        return {key: value for key, value in given.items() if value not in (None, {})}


def minutes(time: str) -> int:
    """``90``, ``1:30:00`` or ``2-00:00:00`` in whole minutes. Raises :class:`UsageError` for anything else."""
    found = re.fullmatch(r"(?:(?:(\d+)-)?(\d+):([0-5]\d):([0-5]\d)|(\d+))", time)
    if found is None or not any(int(each or 0) for each in found.groups()):
        raise UsageError(f"--resource time={time} is no time", "Give it in minutes, or as [D-]HH:MM:SS.")
    days, hours, minute, seconds, plain = (int(each or 0) for each in found.groups())
    return plain + (days * 24 + hours) * 60 + minute + (seconds > 0)


SLURM = Slurm()
