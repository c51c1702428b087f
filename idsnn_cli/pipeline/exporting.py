"""``export``: a student as it is to be used, its learnt spike amplitudes folded into the layers behind them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from idsnn_cli.checkpoint import file_sha256, open_checkpoint, write_checkpoint
from idsnn_cli.errors import CheckpointError, MissingInputError, UsageError
from idsnn_cli.models import described_in, fold_amplitudes, load, require_amplitudes
from idsnn_cli.outputs import check_output


def export(source: Path, target: Path, *, force: bool = False) -> dict[str, Any]:
    """Fold the amplitudes of the student in ``source`` and write the network to ``target``, whole or not at all.

    What the checkpoint says about itself is kept, and its provenance says what was folded. Returns ``source`` and
    ``file``; ``folded``, how many amplitudes there were, the ``smallest``, the ``largest``, and the ``source_sha256``;
    and the ``architecture`` in words. Raises :class:`MissingInputError` where ``source`` is not there,
    :class:`CheckpointError` where idsnn did not write it, :class:`UsageError` where there is nothing to fold or
    ``target`` is ``source``, and :class:`WriteError` where ``target`` is there and not ``force``, or cannot be.
    """
    _check_target(source, target, force)
    with open_checkpoint(source) as file:
        metadata = file.metadata
        architecture = described_in(metadata)
    if metadata is None or architecture is None:
        raise CheckpointError(
            f"{source} is not a checkpoint of idsnn, so it has no amplitudes to fold",
            "Give a student that idsnn trained with student.amplitude=channel.",
        )
    require_amplitudes(architecture, source)
    state = load(source).state_dict()
    values = [value for name, value in state.items() if ".amplitude" in name]
    facts = {
        "amplitudes": sum(value.numel() for value in values),
        "smallest": min(float(value.min()) for value in values),
        "largest": max(float(value.max()) for value in values),
        "source_sha256": file_sha256(source),
    }
    folded, weights = fold_amplitudes(architecture, state)
    provenance = dict(metadata.get("provenance", {})) | {"folded": facts}
    write_checkpoint(target, weights, {**metadata, "architecture": folded.to_dict(), "provenance": provenance})
    return {"source": str(source), "file": str(target), "folded": facts, "architecture": folded.describe()}


def _check_target(source: Path, target: Path, force: bool) -> None:
    if not source.exists():
        raise MissingInputError(f"the checkpoint is not there: {source}", "Correct its path.")
    if os.path.realpath(source) == os.path.realpath(target):
        raise UsageError(f"{target} would be read and replaced by the same command", "Give another -o FILE.")
    check_output(target, force=force)
