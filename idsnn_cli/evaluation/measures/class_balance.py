"""Figures that count every class alike, however many images it has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor

from idsnn_cli.evaluation.accuracy import MeasuredNetwork
from idsnn_cli.evaluation.measure import ObservingMeasure, Work
from idsnn_cli.evaluation.observation import Observation
from idsnn_cli.figures import ResultTable
from idsnn_cli.results import Result


@dataclass(frozen=True, slots=True)
class ClassBalance(Result):
    """After the last step, by scikit-learn's definitions; classes that are in no label and no answer do not count."""

    balanced_accuracy: Annotated[float, "percent, the mean over classes with images of the share that is right"]
    macro_f1: Annotated[float, "percent, the mean over classes of F1 = 2 P R / (P + R)"]
    auc: Annotated[
        float | None,
        "percent, the area under the ROC curve of the second of two classes; null for other counts of classes, and "
        "where one has no image",
    ]
    smallest_class: Annotated[int, "images of the smallest class that has some"]
    largest_class: Annotated[int, "images of the largest class"]


class Answers(Observation[ClassBalance]):
    """Labels and answers after the last step, and of two classes how much the second is ahead."""

    def __init__(self) -> None:
        self.labels: list[Tensor] = []
        self.answers: list[Tensor] = []
        self.ahead: list[Tensor] = []

    def see(self, running_TNK: Tensor, labels: Tensor) -> None:
        last = running_TNK[-1]
        self.labels.append(labels.cpu())
        self.answers.append(last.argmax(-1).cpu())
        if last.shape[-1] == 2:
            self.ahead.append((last[:, 1] - last[:, 0]).cpu())

    def result(self) -> ClassBalance:
        from sklearn.metrics import f1_score, recall_score, roc_auc_score

        labels, answers = torch.cat(self.labels), torch.cat(self.answers)
        counts = torch.bincount(labels)
        there = counts.nonzero().flatten()
        truth, chosen = labels.numpy(), answers.numpy()
        recall = recall_score(truth, chosen, labels=there.numpy(), average="macro", zero_division=0)
        both = bool(self.ahead) and len(there) == 2
        return ClassBalance(
            balanced_accuracy=100 * float(recall),
            macro_f1=100 * float(f1_score(truth, chosen, average="macro", zero_division=0)),
            auc=100 * float(roc_auc_score(truth, torch.cat(self.ahead).numpy())) if both else None,
            smallest_class=int(counts[there].min()),
            largest_class=int(counts.max()),
        )


class ClassBalanceMeasure(ObservingMeasure[ClassBalance]):
    words = "balanced accuracy, macro F1 and, of two classes, AUC: every class counts alike"
    found = ClassBalance
    package = ("sklearn", "metrics")

    def observe(self, work: Work) -> Answers:
        return Answers()

    def table(self, found: ClassBalance, network: MeasuredNetwork, classes: Sequence[str]) -> ResultTable:
        two = found.auc is not None
        return ResultTable(
            "class_balance",
            "every class counted alike",
            ("balanced accuracy %", "macro F1 %", *(("AUC %",) if two else ())),
            ((found.balanced_accuracy, found.macro_f1, *((found.auc,) if two else ())),),
            (f"classes of {found.smallest_class:,} to {found.largest_class:,} images",),
        )


MEASURE = ClassBalanceMeasure()
