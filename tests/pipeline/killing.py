"""Run the command line and kill the process with SIGKILL at the N-th of its writes, syncs, renames or batches.

    python killing.py WHERE N WORDS...    WHERE: write, sync, rename, batch, or never

Nothing in the process sees the end coming, so what is on disk is what a power cut at that moment would leave.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from idsnn_cli.cli.main import main

where, count = sys.argv[1], int(sys.argv[2])
sys.argv = ["idsnn", *sys.argv[3:]]
left = count


def dying(call: Callable[..., Any]) -> Callable[..., Any]:
    """``call``, after which the process dies when its turn has come."""

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        global left
        left -= 1
        result = call(*args, **kwargs)
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    return wrapped


if where == "sync":
    os.fsync = dying(os.fsync)
elif where == "rename":
    os.replace = dying(os.replace)
elif where in ("batch", "write"):
    import torch

    from idsnn_cli.training.loop import _Trainer

    if where == "batch":
        _Trainer.step = dying(_Trainer.step)  # type: ignore[method-assign]  # a test's patch
    else:
        saved = torch.save

        def half(content: Any, path: Any) -> None:
            """The resume state, of which only the first half arrives before the end."""
            global left
            saved(content, path)
            left -= 1
            if left == 0:
                os.truncate(path, os.path.getsize(path) // 2)
                os.kill(os.getpid(), signal.SIGKILL)

        torch.save = half  # type: ignore[assignment]  # as much of torch.save as the state needs

main()
