"""How a script that runs idsnn's own steps ends."""

from __future__ import annotations

import sys
from collections.abc import Callable

from idsnn_cli.errors import IdsnnError


def to_the_end(command: Callable[[], None]) -> None:
    """Call it; what idsnn expects to fail, an interrupt among it, ends it in words, with the exit code of ``idsnn``."""
    try:
        command()
    except IdsnnError as error:
        sys.stderr.write(f"Error: {error}\n")
        sys.exit(error.exit_code)
