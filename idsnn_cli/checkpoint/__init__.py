"""Bytes on disk to and from state dicts: atomic writing, our own safetensors, foreign files, hashes."""

from __future__ import annotations

from idsnn_cli.checkpoint.atomic import atomic_link, atomic_path, write_bytes, write_json, write_text
from idsnn_cli.checkpoint.file import CheckpointFile
from idsnn_cli.checkpoint.provenance import TensorsDigest, file_sha256, tensors_sha256
from idsnn_cli.checkpoint.reading import checkpoint_files, checkpoint_sha256, load_state, open_checkpoint
from idsnn_cli.checkpoint.writing import FORMAT_VERSION, write_checkpoint

__all__ = [
    "FORMAT_VERSION",
    "CheckpointFile",
    "TensorsDigest",
    "atomic_link",
    "atomic_path",
    "checkpoint_files",
    "checkpoint_sha256",
    "file_sha256",
    "load_state",
    "open_checkpoint",
    "tensors_sha256",
    "write_bytes",
    "write_checkpoint",
    "write_json",
    "write_text",
]
