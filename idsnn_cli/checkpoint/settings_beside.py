"""What transformers and timm write of a network beside its weights: the ``config.json`` of the same folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

NAME = "config.json"
_LARGEST = 1_000_000


def settings_beside(file: Path) -> dict[str, Any]:
    """The values of the ``config.json`` beside the checkpoint ``file``, by its name and theirs, joined by a dot.

    Empty where there is none, or it is no JSON object: nothing is read from it that the tensors need.
    """
    path = file.parent / NAME
    try:
        if not path.is_file() or path.stat().st_size > _LARGEST:
            return {}
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return {f"{NAME}.{key}": value for key, value in content.items()} if isinstance(content, dict) else {}
