"""Jobs on this machine, by submitit: what a cluster would be given, tried without one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from idsnn_cli.cli.launchers import Launched, Launcher
from idsnn_cli.cli.launchers._submitted import submit
from idsnn_cli.extras import require_extra

_YEAR = 60 * 24 * 365  # minutes; submitit ends a local job after two


class Local(Launcher):
    """All jobs run at once, as those of ``--jobs N`` do."""

    extra = "slurm"
    keys: Mapping[str, str] = {}

    def require(self, resources: Mapping[str, str]) -> None:
        require_extra(self.extra, "--launcher local", "submitit")

    def launch(self, commands: Sequence[Sequence[str]], logs: Sequence[Path], resources: Mapping[str, str]) -> Launched:
        import submitit

        from idsnn_cli.pipeline.processes import gpus_of_machine

        executor = submitit.AutoExecutor(logs[0].parent / "local", cluster="local")
        # Without a number of GPUs submitit hides them all.
        executor.update_parameters(timeout_min=_YEAR, gpus_per_node=gpus_of_machine())
        return submit(executor, commands, logs)


LOCAL = Local()
