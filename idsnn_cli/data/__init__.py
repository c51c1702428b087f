"""Data sets, augmentation and batches, on the device that trains; each name is imported on its first use.

Images are in 0 to 1; networks normalise.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from idsnn_cli.registry import handed_out

if TYPE_CHECKING:
    from idsnn_cli.data.augmentation import Draws, apply, draw, to_unit
    from idsnn_cli.data.batches import (
        Batch,
        TrainBatches,
        calibration_batches,
        drawn_batches,
        eval_batches,
        shard,
    )
    from idsnn_cli.data.channels import CONSTANTS, PerChannel
    from idsnn_cli.data.load import load_data, plan_data
    from idsnn_cli.data.source import DataPlan, cache_folder, data_root
    from idsnn_cli.data.splits import DataBundle, Split

__all__ = [
    "CONSTANTS",
    "Batch",
    "DataBundle",
    "DataPlan",
    "Draws",
    "PerChannel",
    "Split",
    "TrainBatches",
    "apply",
    "cache_folder",
    "calibration_batches",
    "data_root",
    "draw",
    "drawn_batches",
    "eval_batches",
    "load_data",
    "plan_data",
    "shard",
    "to_unit",
]

__getattr__ = handed_out(
    __name__,
    {
        "augmentation": ("Draws", "apply", "draw", "to_unit"),
        "batches": ("Batch", "TrainBatches", "calibration_batches", "drawn_batches", "eval_batches", "shard"),
        "channels": ("CONSTANTS", "PerChannel"),
        "load": ("load_data", "plan_data"),
        "source": ("DataPlan", "cache_folder", "data_root"),
        "splits": ("DataBundle", "Split"),
    },
)
