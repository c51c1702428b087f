"""A checkpoint of ours with the learnt spike amplitudes folded into the layers behind them (Real Spike)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from idsnn_cli.architecture import Architecture
from idsnn_cli.checkpoint import write_checkpoint
from idsnn_cli.export._comparing import compare, reference, run_with_spikes
from idsnn_cli.export.base import Compared, Format, Images, Student
from idsnn_cli.models import fold_amplitudes, load, require_amplitudes
from idsnn_cli.spiking import LIF


class Fold(Format):
    """Binary spikes, the same outputs. What the checkpoint says about itself is kept, and its provenance says what was
    folded: how many ``amplitudes``, the ``smallest``, the ``largest``, and the ``source_sha256``.
    """

    # What has no ending is ours, too.
    suffixes = (".safetensors", "")
    key = "folded"
    words = "a checkpoint of binary spikes, learnt amplitudes folded into the weights"

    def require(self, architecture: Architecture, where: object) -> None:
        require_amplitudes(architecture, where)

    def write(self, student: Student, target: Path) -> tuple[str, dict[str, Any]]:
        state = student.model.state_dict()
        values = [value for name, value in state.items() if ".amplitude" in name]
        facts = {
            "amplitudes": sum(value.numel() for value in values),
            "smallest": min(float(value.min()) for value in values),
            "largest": max(float(value.max()) for value in values),
            "source_sha256": student.sha256,
        }
        folded, weights = fold_amplitudes(student.architecture, state)
        provenance = dict(student.metadata.get("provenance", {})) | {"folded": facts}
        metadata = {**student.metadata, "architecture": folded.to_dict(), "provenance": provenance}
        write_checkpoint(target, weights, metadata)
        return folded.describe(), facts

    def tell(self, facts: Mapping[str, Any]) -> str:
        counted = f"{facts['amplitudes']:,} amplitudes of {facts['smallest']:.4g} to {facts['largest']:.4g}"
        return f"{counted} are folded."

    def verify(self, student: Student, target: Path, seen: Images) -> tuple[Compared, ...]:
        model, folded = reference(student, torch.float64), load(target).double()
        # Before the amplitudes, which the folded network has in its weights.
        layers = {name: name for name, module in model.named_modules() if isinstance(module, LIF)}
        ours, theirs = (lambda images, net=net: run_with_spikes(net, images, layers) for net in (model, folded))
        return (compare("idsnn", ours, theirs, seen, torch.float64, model, folded),)

    def next(self, target: Path) -> str | None:
        return f"idsnn eval --checkpoint {target}"


FORMAT = Fold()
