"""Jobs on this machine, by submitit: what a cluster would be given, tried without one."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
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
        with _stderr_into(logs[0].parent / "submitit.log"):
            return submit(executor, commands, logs)


@contextmanager
def _stderr_into(path: Path) -> Iterator[None]:
    """Give processes started within ``path`` as their standard error: Ctrl-C reaches submitit's own, too, and they end
    in tracebacks that nobody at the terminal asked for.
    """
    kept = os.dup(2)
    try:
        with path.open("ab") as log:
            os.dup2(log.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


LOCAL = Local()
