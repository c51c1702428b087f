"""torch.export's program: the network as a graph that PyTorch runs without idsnn."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from idsnn_cli.architecture import Architecture
from idsnn_cli.checkpoint import atomic_path
from idsnn_cli.export._comparing import Spikes, compare, reference
from idsnn_cli.export._programs import facts_of, recorded, require_recordable, told
from idsnn_cli.export.base import Compared, Format, Images, Student


class Pt2(Format):
    """``torch.export.load(FILE).module()`` gives it back; all neurons' steps are written out."""

    suffixes = (".pt2",)
    key = "program"
    words = "torch.export's program, which PyTorch runs without idsnn"
    sized = True

    def require(self, architecture: Architecture, where: object) -> None:
        require_recordable(architecture, where)

    def write(self, student: Student, target: Path) -> tuple[str, dict[str, Any]]:
        dtype = student.model.head.weight.dtype
        model, program = recorded(student, dtype)
        with atomic_path(target) as temporary, temporary.open("wb") as file:
            torch.export.save(program, file)
        return student.architecture.describe(), facts_of(model, student, dtype)

    def tell(self, facts: Mapping[str, Any]) -> str:
        return told(facts)

    def verify(self, student: Student, target: Path, seen: Images) -> tuple[Compared, ...]:
        dtype = student.model.head.weight.dtype
        model, program = reference(student, dtype), torch.export.load(target).module()

        @torch.no_grad()
        def ours(images: Tensor) -> tuple[Tensor, Spikes]:
            return model(images), {}

        @torch.no_grad()
        def theirs(images: Tensor) -> tuple[Tensor, Spikes]:
            return program(images), {}

        return (compare(f"torch {torch.__version__}", ours, theirs, seen, dtype),)


FORMAT = Pt2()
