"""MLflow: a run in the experiment ``idsnn``, where MLFLOW_TRACKING_URI says, else in RUN/mlflow.db."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from idsnn_cli.training.trackers import PROJECT, Log, Tracked, Tracker


class _Run(Log):
    def __init__(self, client: Any, identity: str) -> None:
        self.client, self.identity = client, identity

    def write(self, epoch: int, figures: Mapping[str, float]) -> None:
        for name, value in figures.items():
            self.client.log_metric(self.identity, name, value, step=epoch)

    def close(self) -> None:
        self.client.set_terminated(self.identity)


class MLflow(Tracker):
    """The recipe's values are the run's parameters, by their dotted keys."""

    package = ("mlflow", "mlflow")

    def open(self, of: Tracked, identity: str | None) -> Log:
        from mlflow import MlflowClient

        where = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{(of.run / 'mlflow.db').resolve()}"
        client = MlflowClient(tracking_uri=where)
        if identity is not None:
            client.update_run(identity, status="RUNNING")
            return _Run(client, identity)
        known = client.get_experiment_by_name(PROJECT)
        experiment = client.create_experiment(PROJECT, _files(of)) if known is None else known.experiment_id
        tags = {"run": of.group, "step": of.step, "id": of.id}
        run = client.create_run(experiment, run_name=of.name, tags=tags).info.run_id
        for key, value in _flat(of.config):
            client.log_param(run, key, value)
        return _Run(client, run)


def _files(of: Tracked) -> str | None:
    """Where an experiment would keep files; a server knows that itself."""
    named = os.environ.get("MLFLOW_TRACKING_URI")
    return None if named else (of.run / "mlruns").resolve().as_uri()


def _flat(section: Mapping[str, Any], before: str = "") -> list[tuple[str, str]]:
    found = []
    for key, value in section.items():
        found += _flat(value, f"{before}{key}.") if isinstance(value, Mapping) else [(f"{before}{key}", str(value))]
    return found


MLFLOW = MLflow()
