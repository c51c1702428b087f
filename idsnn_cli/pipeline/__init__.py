"""The order of the steps, and what each reads and writes in a run directory."""

from idsnn_cli.pipeline.exporting import export
from idsnn_cli.pipeline.gathering import gather
from idsnn_cli.pipeline.grid import Grid
from idsnn_cli.pipeline.measuring import eval_step, evaluate_networks, networks_of, write_document
from idsnn_cli.pipeline.own_scheme import read_scheme
from idsnn_cli.pipeline.pretraining import pretrain_step
from idsnn_cli.pipeline.preview import check, preview, steps_of_run
from idsnn_cli.pipeline.reporting import check_report, write_report
from idsnn_cli.pipeline.run import run_all, summary
from idsnn_cli.pipeline.session import Session, StepResult
from idsnn_cli.pipeline.starting import init_step, plan_start, write_init
from idsnn_cli.pipeline.steps import baseline_step, distill_step, teacher_step

__all__ = [
    "Grid",
    "Session",
    "StepResult",
    "baseline_step",
    "check",
    "check_report",
    "distill_step",
    "eval_step",
    "evaluate_networks",
    "export",
    "gather",
    "init_step",
    "networks_of",
    "plan_start",
    "pretrain_step",
    "preview",
    "read_scheme",
    "run_all",
    "steps_of_run",
    "summary",
    "teacher_step",
    "write_document",
    "write_init",
    "write_report",
]
