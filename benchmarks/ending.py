"""How a script that runs idsnn's own steps ends."""

from __future__ import annotations

import sys
from collections.abc import Callable

from idsnn_cli.cli.stopping import until_stopped
from idsnn_cli.errors import IdsnnError


def to_the_end(command: Callable[[], None]) -> None:
    """Call it and exit as ``idsnn`` does: what it expects to fail is told in words, a signal ends it without any."""

    def work() -> int:
        try:
            command()
        except IdsnnError as error:
            sys.stderr.write(f"Error: {error}\n")
            return error.exit_code
        return 0

    until_stopped(work)
