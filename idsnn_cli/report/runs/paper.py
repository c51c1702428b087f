"""What the paper reports (Fan, Zhang, Zhang 2023): ResNet-34 into Spiking ResNet-18, top-1 in percent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from idsnn_cli.training.losses import teaching_terms

Row = str

# Epochs that the paper trains for, but for table 4's shorter steps.
EPOCHS, _SHORTER = 200, {20: 80, 10: 40}
TEACHERS = {"cifar10": 95.10, "cifar100": 77.26}
# Tables 1 and 2, by time steps.
OWN_NETWORK = "spiking-resnet18"
_IDSNN = {"cifar10": {4: 94.03, 6: 94.22}, "cifar100": {4: 75.24, 6: 75.41}}
# Table 3. Its row "both" is the one of six time steps; those of the others are not stated.
_ABLATION: dict[str, dict[Row, float]] = {
    "cifar10": {"baseline": 93.54, "init": 93.64, "kd": 93.98, "both": 94.22},
    "cifar100": {"baseline": 71.34, "init": 74.47, "kd": 73.71, "both": 75.41},
}
# Rows of other systems beside these: network, table, row, data set and time steps.
_OTHERS = {("spiking-vgg16", 2, "kd", "cifar100", 5): 74.42}
# Table 4, CIFAR-100, by the epochs between steps of the learning rate: value and, where it is given, its epoch.
_STEPS: dict[Row, dict[float, tuple[float, int | None]]] = {
    "baseline": {60: (71.31, 192), 20: (68.96, 74), 10: (63.95, None)},
    "kd": {60: (73.71, None), 20: (70.35, None), 10: (66.02, None)},
    "both": {60: (75.41, 138), 20: (74.45, 54), 10: (73.02, None)},
}


@dataclass(frozen=True, slots=True)
class Reported:
    """One value of the paper: its best test epoch's top-1 in percent, and that epoch where it says it."""

    table: int
    row: Row
    top1: float
    epoch: int | None = None

    def to_dict(self) -> dict[str, object]:
        return {"table": self.table, "row": self.row, "top1": self.top1, "epoch": self.epoch}


def row_of(settings: Mapping[str, Any]) -> Row:
    """The row that a recipe's settings make of a student: baseline, init, kd or both; none of the paper's where it was
    trained as an ANN first.
    """
    if settings["pretrain"]["epochs"]:
        return "pretrain"
    distill = settings["distill"]
    taught = bool(teaching_terms(distill))
    if settings["init"]["rule"] == "none":
        return "kd" if taught else "baseline"
    return "both" if taught else "init"


def epochs_of(table: int, step: float | None) -> int:
    """The epochs of a training of ``table``, in table 4 of ``step`` epochs between steps."""
    return _SHORTER.get(int(step or 0), EPOCHS) if table == 4 else EPOCHS


def reported(
    table: int, row: Row, dataset: str, timesteps: int, step: float | None, arch: str = OWN_NETWORK
) -> Reported | None:
    """The paper's value of ``row`` (baseline, init, kd or both) for the network ``arch``, None where there is none.

    Tables 1 and 2 hold ``both`` at T = 4 and 6, on CIFAR-10 and CIFAR-100. Table 3 does not say the T of its rows but
    for ``both``, which is taken at 4 from table 1 or 2. Table 4 is of CIFAR-100, ``step`` its epochs between steps.
    Rows of other networks are those of other systems.
    """
    if arch != OWN_NETWORK:
        others = _OTHERS.get((arch, table, row, dataset, timesteps))
        return None if others is None else Reported(table, row, others)
    if table == 4:
        found = _STEPS.get(row, {}).get(step or 0) if dataset == "cifar100" else None
        return None if found is None else Reported(4, row, *found)
    own_table = {"cifar10": 1, "cifar100": 2}.get(dataset)
    if own_table is None or timesteps not in (4, 6) or (table != 3 and (row != "both" or table != own_table)):
        return None
    if row == "both":
        value = _IDSNN[dataset][timesteps]
        return Reported(table if table != 3 or timesteps == 6 else own_table, row, value)
    return Reported(3, row, _ABLATION[dataset][row])
