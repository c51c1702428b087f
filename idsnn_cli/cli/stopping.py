"""SIGINT and SIGTERM: whatever code they meet, the process ends with 130 or 143, at once and without a traceback.

Imported before anything that takes time. An exception alone is not enough: what a destructor, a callback or a
library's own clean-up is interrupted in drops it, and torch's native code, while it is imported, ends the process by an
abort.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any, NoReturn

from idsnn_cli.systems import Reminder

NUMBERS = (signal.SIGINT, signal.SIGTERM)
# Seconds until a stop that was dropped on its way is raised again.
AGAIN = 0.5


_AGAIN = Reminder(AGAIN)


class Stopped(BaseException):
    """SIGINT or SIGTERM outside training, where nothing is half done that a file would show."""

    def __init__(self, number: int) -> None:
        self.number = number


class _Asked:
    """The signal that asked to stop, or None."""

    number: int | None = None


def until_stopped(work: Callable[[], int]) -> NoReturn:
    """Exit with the code of ``work``, or with 128 + N where signal N came first, whatever became of its exception."""
    _Asked.number = None
    try:
        try:
            code = _guarded(work)
        finally:
            # What comes now finds all done: the process ends by the signal itself, as its parent sees.
            _AGAIN.stop()
            for number in NUMBERS:
                signal.signal(number, signal.SIG_DFL)
    except Stopped as stopped:
        code = 128 + stopped.number
    sys.exit(code)


def _guarded(work: Callable[[], int]) -> int:
    for number in NUMBERS:
        signal.signal(number, _stop)
    try:
        code = work()
    except (Exception, SystemExit):
        # Native code turns an exception that it is interrupted by into errors of its own.
        if _Asked.number is None:
            raise
        return 128 + _Asked.number
    return code if _Asked.number is None else 128 + _Asked.number


def _stop(number: int, frame: FrameType | None) -> NoReturn:
    _leave_imports(number, frame)
    # Without a traceback of what is interrupted where no exception can be raised: it comes again.
    sys.unraisablehook = _unraisable
    _Asked.number = number
    _AGAIN.start(number, _stop_again)
    raise Stopped(number)


def _stop_again(alarm: int, frame: FrameType | None) -> None:
    """Raise the stop anew, unless it is on its way and lets what it passes clean up."""
    seen = sys.exception()
    while seen is not None and not isinstance(seen, Stopped):
        seen = seen.__context__
    if seen is None and _Asked.number is not None:
        _leave_imports(_Asked.number, frame)
        raise Stopped(_Asked.number)


def _leave_imports(number: int, frame: FrameType | None) -> None:
    """End the process at once where something is being imported: nothing is half done, and no exception is safe."""
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            os._exit(128 + number)
        frame = frame.f_back


def _unraisable(seen: Any) -> None:
    if not isinstance(seen.exc_value, Stopped):
        sys.__unraisablehook__(seen)
