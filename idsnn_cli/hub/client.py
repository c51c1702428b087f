"""The hub's client: what every call to it goes through, so that it is silent and its failures are typed errors."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from traceback import walk_tb
from typing import Any

from idsnn_cli.errors import HubError, IdsnnError, WriteError
from idsnn_cli.extras import require_extra
from idsnn_cli.systems import DISK_FULL
from idsnn_cli.text import excerpt
from idsnn_cli.version import __version__

# The client and what it connects by, which differs with its version: all that these raise is a failure to fetch.
_THEIRS = ("huggingface_hub", "httpx", "httpx2", "httpcore", "httpcore2", "requests", "urllib3", "hf_xet")
_XET = ("_upload_xet_files", "xet_get")  # of huggingface_hub, which call Xet's client
_LOG_IN = "Log in with `hf auth login`, or set HF_TOKEN to a token that may"
_UNREACHABLE = "Check the connection (and HF_ENDPOINT, if it is set), and try again."


def require_client(what: str) -> None:
    """Raise :class:`MissingPackageError` where ``what`` needs the hub's client and it is not installed."""
    require_extra("hub", what, "huggingface_hub")


def api() -> Any:
    """The client. HF_ENDPOINT and HF_TOKEN, or the token of `hf auth login`, are its own matter."""
    from huggingface_hub import HfApi

    return HfApi(library_name="idsnn", library_version=__version__)


@contextmanager
def asking(what: str, *, writes: bool = False) -> Iterator[None]:
    """Calls of the hub's client about ``what``: without its bars, logs and warnings, its failures as ours.

    Raises :class:`HubError` where the hub is not reached, refuses, or does not have it, and :class:`WriteError` where
    the disk of its cache refuses; with ``writes`` something is published.
    """
    try:
        with _quietly():
            yield
    except IdsnnError:
        raise
    except Exception as error:
        theirs = type(error).__module__.partition(".")[0] in _THEIRS
        if not theirs and not isinstance(error, OSError | ValueError | RuntimeError):
            raise
        raise _typed(what, error, writes) from error


@contextmanager
def _quietly() -> Iterator[None]:
    from huggingface_hub import utils

    level, shown = utils.logging.get_verbosity(), not utils.are_progress_bars_disabled()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        utils.logging.set_verbosity(utils.logging.CRITICAL)
        utils.disable_progress_bars()
        try:
            yield
        finally:
            utils.logging.set_verbosity(level)
            if shown:
                utils.enable_progress_bars()


def _typed(what: str, error: Exception, writes: bool) -> IdsnnError:
    from huggingface_hub import errors

    causes = [error, *_causes(error)]
    for each in causes:
        if isinstance(each, errors.OfflineModeIsEnabled):
            return _silent(f"{what}: HF_HUB_OFFLINE is set, so the hub is not asked", "Unset HF_HUB_OFFLINE.")
        if isinstance(each, errors.HfHubHTTPError):
            return _refused(what, each, writes)
        # Errors of connections are the system's too, but name no file and speak of no disk.
        if isinstance(each, OSError) and each.errno is not None and (each.filename or each.errno in DISK_FULL):
            return _disk(what, each, writes)
    for each in causes:
        if type(each).__name__ in ("ConnectError", "ConnectionError", "ConnectTimeout", "ReadTimeout", "ProxyError"):
            return _silent(f"{what}: the hub is not reached: {_reason(each)}", _UNREACHABLE)
    if any(_by_xet(each) for each in causes):
        words = f"{what} could not be {'published' if writes else 'fetched'} by Xet: {_reason(error)}"
        return _silent(words, f"{_UNREACHABLE} HF_HUB_DISABLE_XET=1 does it by plain HTTP.")
    words = f"{what} could not be {'published' if writes else 'fetched'}: {_reason(error)}"
    return HubError(words, _UNREACHABLE) if isinstance(error, ValueError) else _silent(words, _UNREACHABLE)


def _by_xet(error: BaseException) -> bool:
    """Whether Xet's client was called: it is compiled, and raises what names it nowhere (RuntimeError)."""
    return any(frame.f_code.co_name in _XET for frame, _ in walk_tb(error.__traceback__))


def _silent(message: str, fix: str) -> HubError:
    """Of a hub that did not answer."""
    error = HubError(message, fix)
    error.answered = False
    return error


def _refused(what: str, error: Any, writes: bool) -> IdsnnError:
    """What an answer of the hub says."""
    from huggingface_hub import errors

    status = error.response.status_code
    if isinstance(error, errors.GatedRepoError):
        return HubError(
            f"{what}: its authors let in only whom they have let in, and not this account",
            f"Ask for access on its page on the hub. {_LOG_IN} read it.",
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return HubError(f"{what}: the repository has no such revision", "Correct what stands behind the @.")
    if isinstance(error, errors.EntryNotFoundError):
        return HubError(f"{what}: the repository has no such file", "Correct the file's name.")
    if isinstance(error, errors.RepositoryNotFoundError):
        can = "write to it" if writes else "read it"
        return HubError(
            f"{what}: there is no such repository, or it is private and not for this account (HTTP {status})",
            f"Correct the name. {_LOG_IN} {can}.",
        )
    if status in (401, 403):
        can = "write to it" if writes else "read it"
        said = _server_words(error)
        return HubError(f"{what}: the hub refuses this account (HTTP {status}{said})", f"{_LOG_IN} {can}.")
    if status == 412 or status == 409:
        return HubError(
            f"{what} was changed by another meanwhile, or is another's", "Look at what is there, and try again."
        )
    if status == 429:
        return HubError(f"{what}: the hub has had too many requests from here", "Wait some minutes, and try again.")
    if status >= 500:
        return _silent(f"{what}: the hub answers with HTTP {status}", "Try again later.")
    return HubError(f"{what}: the hub refuses (HTTP {status}{_server_words(error)})", "Correct what it names.")


def _disk(what: str, error: OSError, writes: bool) -> IdsnnError:
    where = f"{error.filename}: " if error.filename else ""
    reason = (error.strerror or str(error)).lower()
    if writes:
        return HubError(f"{what} could not be published: {where}{reason}", "Check that file.")
    return WriteError(
        f"{what}: the hub's cache could not be written: {where}{reason}",
        "Free some space or mend its permissions, or choose another place: HF_HUB_CACHE=DIR.",
    )


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    following = error.__cause__ or error.__context__
    while following is not None and id(following) not in seen:
        seen.add(id(following))
        yield following
        following = following.__cause__ or following.__context__


def _reason(error: BaseException) -> str:
    return (excerpt(str(error), 160) or type(error).__name__).rstrip(".")


def _server_words(error: Any) -> str:
    words = excerpt(str(getattr(error, "server_message", None) or ""), 160).rstrip(".")
    return f": {words}" if words else ""
