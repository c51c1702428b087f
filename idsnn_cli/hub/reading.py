"""Files of the hub: what a name stands for, found once in a process, and fetched into the client's own cache."""

from __future__ import annotations

import hashlib
import json
import re
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from idsnn_cli.errors import CheckpointError, HubError, did_you_mean
from idsnn_cli.hub.choosing import INDEX, SAFE, USUAL, choose
from idsnn_cli.hub.client import api, asking, require_client
from idsnn_cli.hub.names import HubName
from idsnn_cli.text import excerpt

Say = Callable[[str], None]
MAIN = "main"
# Settings that libraries leave beside a network, and the largest such file that is fetched.
CONFIG, PREPROCESSOR = "config.json", "preprocessor_config.json"
_LARGEST_SETTINGS = 1_000_000
_COMMIT, _SHA256 = re.compile(r"[0-9a-f]{40}"), re.compile(r"[0-9a-f]{64}")


class Stored(NamedTuple):
    """A tensor in a file that is not here; ``dtype`` is its name in safetensors (``F32``)."""

    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Header:
    """What opens a safetensors file: its strings, and its tensors by name."""

    strings: dict[str, str]
    tensors: dict[str, Stored]


@dataclass(frozen=True, slots=True)
class Located:
    """The file that a name stands for: ``file`` of ``commit``, and the files of the same commit that it needs.

    ``sizes`` are bytes by name and ``hashes`` SHA-256, as far as the hub tells; both are empty of what is read off the
    cache, with the reason in ``offline``.
    """

    name: HubName
    commit: str
    file: str
    files: tuple[str, ...]
    sizes: Mapping[str, int]
    hashes: Mapping[str, str]
    offline: str | None = None

    @property
    def safe(self) -> bool:
        """Whether its header says what it holds, so that the file itself is not needed for that."""
        return self.file.endswith(SAFE)

    @property
    def path(self) -> Path:
        """Where it is in the cache, there or not."""
        return _folder(self.name.repo) / "snapshots" / self.commit / self.file

    @property
    def url(self) -> str:
        from huggingface_hub import hf_hub_url

        return str(hf_hub_url(self.name.repo, self.file, revision=self.commit))

    @property
    def guessed(self) -> bool:
        """Whether nobody named the file, and the cache does not tell that the repository has no other network."""
        return self.offline is not None and self.name.file is None and self.file != USUAL

    def beside(self, name: str) -> str | None:
        """The file ``name`` in the same folder of the repository, where it is there and small."""
        folder, slash, _ = self.file.rpartition("/")
        path = f"{folder}{slash}{name}"
        fits = path in self.files and self.sizes.get(path, 0) <= _LARGEST_SETTINGS
        return path if fits else None


_FOUND: dict[tuple[str, HubName], Located] = {}
_HEADERS: dict[tuple[str, str], Header] = {}
_TOLD: set[HubName] = set()
# Files of the cache that were looked at, with their sizes and times.
_UNCHANGED: set[tuple[Path, int, int]] = set()


def forget() -> None:
    """Let names be looked up anew: within a process each stands for the commit that it was found at first."""
    _FOUND.clear()
    _HEADERS.clear()
    _TOLD.clear()


def locate(name: HubName) -> Located:
    """The file and the commit that ``name`` stands for, the same ones throughout a process.

    One request; where the hub is not reached it is the commit that the cache has. Raises :class:`HubError` where there
    is no such repository, revision or file, or several checkpoints and none is named.
    """
    require_client(str(name))
    from huggingface_hub import constants

    key = (str(constants.ENDPOINT), name)
    if key not in _FOUND:
        try:
            _FOUND[key] = _on_hub(name)
        except HubError as error:
            if error.answered:
                raise
            _FOUND[key] = _in_cache(name, error)
    return _FOUND[key]


def pin(name: HubName, commit: str, file: str) -> None:
    """Let ``name`` stand for ``file`` of ``commit``, which another process found."""
    from huggingface_hub import constants

    key = (str(constants.ENDPOINT), name)
    if key not in _FOUND or (_FOUND[key].commit, _FOUND[key].file) != (commit, file):
        _FOUND[key] = replace(locate(HubName(name.repo, commit, file)), name=name)


def is_here(found: Located) -> bool:
    """Whether the cache has it whole."""
    return found.path.exists() and all(_path(found, each).exists() for each in _shards(found))


def fetch(found: Located, say: Say | None = None) -> Path:
    """The file in the cache, with its shards and the settings beside it; ``say`` hears of a download.

    Raises :class:`HubError` where it cannot be had whole; then nothing of it is left behind.
    """
    if found.offline is not None and found.name not in _TOLD:
        _TOLD.add(found.name)
        read = f"commit {found.commit[:12]} is in the cache, and is read"
        if found.guessed:
            read += f": {found.file}, the only network of it there; the repository may hold others"
        if say is not None:
            say(f"{found.name}: {found.offline}; {read}")
        elif found.guessed:
            warnings.warn(f"{found.name}: {found.offline}; {read}", stacklevel=2)
    settings(found)  # which the reader looks for beside the file
    if is_here(found):
        for each in (found.file, *_shards(found)):
            _require_unchanged(found, each)
        return found.path
    if say is not None:
        size = found.sizes.get(found.file)
        say(f"downloading {found.url}{'' if size is None else f' ({size / 1e6:.3g} MB)'}")
    path = _download(found, found.file, found.name.revision)
    for each in _shards(found):
        _download(found, each, found.commit)
    return path


def settings(found: Located) -> dict[str, Any]:
    """The JSON objects of ``config.json`` and ``preprocessor_config.json`` beside the file, by their names."""
    contents = {}
    for name in (CONFIG, PREPROCESSOR):
        path = found.beside(name)
        if path is None:
            continue
        try:
            content = json.loads(_download(found, path, found.commit).read_bytes())
        except (ValueError, RecursionError):  # nothing is read from it that the tensors need
            continue
        if isinstance(content, dict):
            contents[name] = content
    return contents


def header(found: Located) -> Header:
    """What opens a safetensors file; nothing else of it is fetched, and that once in a process."""
    key = (found.url, found.file)
    if key not in _HEADERS:
        from huggingface_hub.errors import SafetensorsParsingError

        with asking(str(found.name)):
            try:
                read = api().parse_safetensors_file_metadata(found.name.repo, found.file, revision=found.commit)
            except SafetensorsParsingError as error:
                raise CheckpointError(
                    f"{found.name}: {found.file} does not open as a safetensors file does.", "Name another file."
                ) from error
        tensors = {name: Stored(str(each.dtype), tuple(each.shape)) for name, each in read.tensors.items()}
        for name, each in tensors.items():
            if not all(isinstance(size, int) and size >= 0 for size in each.shape):
                raise CheckpointError(
                    f"{found.name}: damaged: the shape of '{excerpt(name)}' makes no sense.", "Name another file."
                )
        _HEADERS[key] = Header({str(k): str(v) for k, v in (read.metadata or {}).items()}, tensors)
    return _HEADERS[key]


def _on_hub(name: HubName) -> Located:
    with asking(str(name)):
        info = api().model_info(name.repo, revision=_revision(name.revision), timeout=20, files_metadata=True)
    if not isinstance(info.sha, str) or not _COMMIT.fullmatch(info.sha):
        raise HubError(f"{name}: what answers is no hub: it names no commit", "Check HF_ENDPOINT, if it is set.")
    siblings = list(info.siblings or ())
    files = tuple(each.rfilename for each in siblings)
    return Located(
        name,
        info.sha,
        _chosen(name, files),
        files,
        {each.rfilename: each.size for each in siblings if each.size is not None},
        {each.rfilename: each.lfs.sha256 for each in siblings if each.lfs is not None},
    )


def _in_cache(name: HubName, silence: HubError) -> Located:
    """What the cache has of a repository on a hub that does not answer, by ``silence``. Raises :class:`HubError`."""
    folder, revision = _folder(name.repo), _revision(name.revision) or MAIN
    try:
        named = folder / "refs" / revision
        commit = revision if _COMMIT.fullmatch(revision) else named.read_text(encoding="utf-8").strip()
        snapshot = folder / "snapshots" / commit
        files = tuple(sorted(p.relative_to(snapshot).as_posix() for p in snapshot.rglob("*") if p.is_file()))
    except OSError:
        files = ()
    offline = silence.message.removeprefix(f"{name}: ")
    if not files or (name.file is not None and name.file not in files):
        raise HubError(f"{silence.message}; the cache does not have it", silence.fix)
    return Located(name, commit, _chosen(name, files), files, {}, {}, offline)


def _chosen(name: HubName, files: tuple[str, ...]) -> str:
    if name.file is None:
        return choose(name, files)
    if name.file not in files:
        raise HubError(
            f"{name}: the repository has no such file.{did_you_mean(name.file, files)}", "Correct the file's name."
        )
    return name.file


def _shards(found: Located) -> tuple[str, ...]:
    """The other files that an index names, once it is here; the reader of sharded files checks them."""
    if not found.file.endswith(INDEX) or not found.path.exists():
        return ()
    try:
        names = set(json.loads(found.path.read_bytes())["weight_map"].values())
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return ()
    folder, slash, _ = found.file.rpartition("/")
    return tuple(sorted(path for path in found.files if path.removeprefix(f"{folder}{slash}") in names))


def _download(found: Located, file: str, revision: str | None) -> Path:
    """``file`` in the cache; by ``revision`` where that is given, so that the cache knows what a branch stood for."""
    path = _path(found, file)
    if path.exists():
        _require_unchanged(found, file)
        return path
    from huggingface_hub import hf_hub_download

    with asking(found.name.of(file)):
        got = Path(hf_hub_download(found.name.repo, file, revision=_revision(revision)))
        if got != path:  # a branch that has moved meanwhile
            got = Path(hf_hub_download(found.name.repo, file, revision=found.commit))
    _check(found, file, got)
    return got


def _check(found: Located, file: str, path: Path) -> None:
    """Take a file of other bytes than the hub lists out of the cache, and raise :class:`HubError`."""
    expected = found.hashes.get(file)
    if expected is None:
        return
    if _sha256(path) == expected:
        return
    for each in {path.resolve(), path}:
        each.unlink(missing_ok=True)
    raise HubError(
        f"{found.name.of(file)}: what came is not what the hub lists (its SHA-256 differs); it was not kept",
        "Try again, or check HF_ENDPOINT, if it is set.",
    )


def _sha256(path: Path) -> str:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def _require_unchanged(found: Located, file: str) -> None:
    """Raise :class:`HubError` where a file in the cache is not the one that was fetched: a commit is the same bytes for
    good. The hub lists the SHA-256 of large files, by which the client names them in its cache.
    """
    path = _path(found, file)
    kept = path.resolve()
    expected = found.hashes.get(file) or (kept.name if _SHA256.fullmatch(kept.name) else None)
    looks = kept.stat()
    key = (kept, looks.st_size, looks.st_mtime_ns)
    if expected is None or key in _UNCHANGED:
        return
    if _sha256(kept) != expected:
        raise HubError(
            f"{found.name.of(file)}: the cache's file was changed since it was fetched (its SHA-256 differs): {kept}",
            "Remove that file, and the command fetches it again.",
        )
    _UNCHANGED.add(key)


def _revision(revision: str | None) -> str | None:
    """The revision itself: %2F stands for a slash in a name."""
    return None if revision is None else revision.replace("%2F", "/").replace("%2f", "/")


def _path(found: Located, file: str) -> Path:
    return _folder(found.name.repo) / "snapshots" / found.commit / file


def _folder(repo: str) -> Path:
    """Where the client keeps a repository; its layout is documented."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE).expanduser().resolve() / f"models--{repo.replace('/', '--')}"
