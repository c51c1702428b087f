"""Data sets, augmentation and batches, on the device that trains. Images are in 0 to 1; networks normalise."""

from idsnn_cli.data.augment import apply, to_unit
from idsnn_cli.data.batches import (
    Batch,
    TrainBatches,
    calibration_batches,
    drawn_batches,
    eval_batches,
    shard,
)
from idsnn_cli.data.bundle import DataBundle, Split
from idsnn_cli.data.draws import Draws, draw
from idsnn_cli.data.load import load_data, plan_data
from idsnn_cli.data.source import DataPlan, cache_folder, data_root

__all__ = [
    "Batch",
    "DataBundle",
    "DataPlan",
    "Draws",
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
