"""``hf://USER/REPO[@REVISION][/FILE]``: what a person writes, taken apart and checked. Nothing is imported for it."""

from __future__ import annotations

import re
from dataclasses import dataclass

from idsnn_cli.errors import UsageError
from idsnn_cli.text import excerpt

FORM = "hf://USER/REPO[@REVISION][/FILE]"
# What the reader of checkpoints opens; its content is looked at again once it is here.
ENDINGS = (".safetensors", ".pt", ".pth", ".th", ".bin", ".ckpt", ".pth.tar", ".pt.tar", ".npz", ".nir", ".index.json")
# Revisions with a slash are these two kinds; in others it is written %2F, as in the hub's own addresses.
_PARTS = re.compile(
    r"(?P<user>[\w.-]+)/(?P<repo>[\w.-]+)"
    r"(?:@(?P<revision>refs/pr/\d+|refs/convert/[\w.-]+|[\w.%+-]+))?"
    r"(?:/(?P<file>.+))?",
    re.ASCII,
)
_OTHER_KINDS = {"datasets": "a data set", "spaces": "a space", "kernels": "a kernel", "buckets": "a bucket"}
_LONGEST = 96  # of USER and of REPO, the hub's own limit


@dataclass(frozen=True, slots=True)
class HubName:
    """``repo`` is USER/REPO, ``revision`` a branch, tag or commit (None: the main branch), ``file`` may be None."""

    repo: str
    revision: str | None = None
    file: str | None = None

    def __str__(self) -> str:
        revision = "" if self.revision is None else f"@{self.revision}"
        return f"hf://{self.repo}{revision}{'' if self.file is None else f'/{self.file}'}"

    def of(self, file: str) -> str:
        """The name of ``file`` in the same repository."""
        return str(HubName(self.repo, self.revision, file))


def parse_hub(text: str) -> HubName:
    """``text`` with or without ``hf://``. Raises :class:`UsageError` for what can be no name of a file there."""
    rest = text.removeprefix("hf:").removeprefix("//")
    first = rest.partition("/")[0]
    if first in _OTHER_KINDS and rest.count("/") >= 2:
        raise UsageError(f"hf://{excerpt(rest)} is {_OTHER_KINDS[first]}, and no network", f"Give {FORM}.")
    found = _PARTS.fullmatch(rest.removeprefix("models/") if rest.count("/") >= 2 else rest)
    if found is None:
        raise UsageError(f"'hf://{excerpt(rest)}' names no file on the hub", f"Give {FORM}.")
    user, repo, revision, file = found["user"], found["repo"], found["revision"], found["file"]
    for part in (user, repo):
        if len(part) > _LONGEST or part[0] in "-." or part[-1] in "-." or "--" in part or ".." in part:
            raise UsageError(
                f"'hf://{excerpt(rest)}': the hub has no name '{excerpt(part)}'",
                "A name there is of letters, digits, '-', '_' and '.', begins and ends with none of the last two, and "
                f"has {_LONGEST} of them at most.",
            )
    if repo.endswith(".git"):
        raise UsageError(f"'hf://{excerpt(rest)}' ends in .git, which no name on the hub does", "Leave .git out.")
    if file is not None:
        _check_file(rest, file)
    return HubName(f"{user}/{repo}", revision, file)


def _check_file(rest: str, file: str) -> None:
    if any(part in ("", ".", "..") for part in file.split("/")) or "\\" in file or not file.isprintable():
        raise UsageError(f"'hf://{excerpt(rest)}' names no file on the hub", f"Give {FORM}.")
    if not file.lower().endswith(ENDINGS):
        raise UsageError(
            f"'hf://{excerpt(rest)}' is no kind of file that is read here",
            f"Give one that ends in {', '.join(ENDINGS)}; or the repository alone, whose checkpoint is found.",
        )
