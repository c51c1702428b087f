"""Files sent to the hub: all of them in one commit, or none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from idsnn_cli.errors import HubError
from idsnn_cli.hub.client import api, asking, require_client


@dataclass(frozen=True, slots=True)
class Remote:
    """A repository as it stands on the hub: ``commit`` is its last one, None where there is no repository yet."""

    repo: str
    commit: str | None
    private: bool
    files: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Sent:
    """``commit`` holds the files; ``created`` says that the repository was made for them."""

    commit: str
    url: str
    created: bool


def look(repo: str) -> Remote:
    """The repository USER/REPO. Raises :class:`HubError` where the hub refuses to say, or is not reached."""
    require_client(f"hf://{repo}")
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    with asking(f"hf://{repo}", writes=True):
        try:
            info = api().model_info(repo, timeout=20)
        except GatedRepoError:
            raise
        except RepositoryNotFoundError:
            return Remote(repo, None, False, ())
        return Remote(repo, info.sha, bool(info.private), tuple(each.rfilename for each in info.siblings or ()))


def publish(remote: Remote, files: Mapping[str, Path | bytes], message: str, *, private: bool) -> Sent:
    """Send ``files``, by their names there, in one commit on top of ``remote``; a repository that is not there is made.

    Raises :class:`HubError` where the hub refuses, is not reached, or somebody else has changed the repository since
    ``remote`` was looked at; then nothing is changed, but a repository that was made stays, empty, and that is said.
    Where no answer came to the commit itself, whether it was made is not known, which is said, too.
    """
    from huggingface_hub import CommitOperationAdd

    what, created = f"hf://{remote.repo}", remote.commit is None
    with asking(what, writes=True):
        operations = [
            CommitOperationAdd(name, content.resolve() if isinstance(content, Path) else content)
            for name, content in files.items()
        ]
    if created:
        with asking(what, writes=True):
            # None: what the account or the organisation has as its usual.
            api().create_repo(remote.repo, private=True if private else None)
    left = "the repository was made for it, and is empty" if created else "nothing in it was changed"
    try:
        with asking(what, writes=True):
            api().preupload_lfs_files(remote.repo, operations, free_memory=False)
    except HubError as error:
        raise HubError(f"{error.message}; {left}", error.fix) from error
    try:
        with asking(what, writes=True):
            done = api().create_commit(remote.repo, operations, commit_message=message, parent_commit=remote.commit)
    except HubError as error:
        left = left if error.answered else "whether the commit was made is not known"
        raise HubError(f"{error.message}; {left}", error.fix) from error
    return Sent(str(done.oid), str(done.commit_url), created)
