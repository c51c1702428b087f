"""The typed errors: what was found, and what to do about it.

Every error that a user can cause is one of these. The command line prints ``message`` and ``fix`` and exits
with ``exit_code``; anything else that escapes is a bug and keeps its traceback.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class IdsnnError(Exception):
    """Base of every expected failure.

    ``message`` says what was found; ``fix`` says what to do, in the imperative.
    """

    exit_code = 1

    def __init__(self, message: str, fix: str | None = None) -> None:
        super().__init__(message if fix is None else f"{message}\n{fix}")
        self.message = message
        self.fix = fix


class UsageError(IdsnnError):
    """A command was given words that do not fit it."""

    exit_code = 2


class RecipeError(IdsnnError):
    """A recipe, or an override of one, is wrong. ``message`` lists every fault, one a line."""

    exit_code = 2


class SchemeError(IdsnnError):
    """A user's own table of tensor names is wrong. ``message`` lists faults, one a line, by line and column."""

    exit_code = 2


class CheckpointError(IdsnnError):
    """A checkpoint cannot be read as what it should be."""


class FamilyError(CheckpointError):
    """The tensor names or shapes of a checkpoint are not those of a ResNet that is known."""


class MappingError(IdsnnError):
    """A target tensor cannot be made from the source tensor that the rules give it."""


class DataError(IdsnnError):
    """A data set is missing, malformed or too small for what was asked of it."""


class DeviceError(IdsnnError):
    """The device that was asked for is not there."""


class MissingInputError(IdsnnError):
    """A file that a step reads does not exist yet."""


class WriteError(IdsnnError):
    """A file could not be written whole; whatever stood there before is untouched."""


class RunConflictError(IdsnnError):
    """A run directory holds work made from another recipe or from other inputs."""


class RunLockedError(IdsnnError):
    """Another process works in the run directory."""


class JobError(IdsnnError):
    """Some of the processes that shared a grid's runs ended with an error."""


class NonFiniteError(IdsnnError):
    """A loss, gradient, parameter or BatchNorm statistic is NaN or infinite."""


class MissingPackageError(IdsnnError):
    """A library that only some commands need is not installed."""


class HubError(IdsnnError):
    """A hub of published networks cannot be reached, or does not have or give what was asked for.

    ``answered`` is False where it said nothing: it is not to be asked, was not reached, or is out of order.
    """

    answered = True


class InterruptedRun(IdsnnError):
    """SIGINT or SIGTERM stopped the work after its state was saved."""

    def __init__(self, message: str, signal_number: int) -> None:
        super().__init__(message, "Run the same command again to continue.")
        self.exit_code = 128 + signal_number


def did_you_mean(given: str, allowed: Iterable[str]) -> str:
    """`` Did you mean 'x'?`` with a leading space for the nearest allowed word, or the empty string."""
    near = difflib.get_close_matches(given, list(allowed), n=1, cutoff=0.6)
    return f" Did you mean '{near[0]}'?" if near else ""
