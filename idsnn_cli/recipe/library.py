"""The recipes that ship: in the wheel beside the package's code, in a checkout at the top of the repository."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from idsnn_cli.errors import RecipeError, UsageError, WriteError, did_you_mean
from idsnn_cli.recipe.source import display
from idsnn_cli.systems import replace, sync_file
from idsnn_cli.text import shorten

SUFFIXES = (".yaml", ".yml")


@dataclass(frozen=True, slots=True)
class ShippedRecipe:
    """A recipe that ships; ``purpose`` and ``command`` are its opening comment's words."""

    name: str
    path: Path
    purpose: str
    command: str


def root() -> Path:
    """The folder of the recipes that ship (it may be missing from a broken installation)."""
    package = Path(__file__).resolve().parents[1]
    installed = package / "_recipes"
    return installed if installed.is_dir() else package.parent / "recipes"


def names() -> list[str]:
    """Every name that RECIPE may be, sorted: ``cifar100``, or ``folder/file`` where recipes are grouped."""
    folder = root()
    return sorted(path.relative_to(folder).with_suffix("").as_posix() for path in folder.rglob("*.yaml"))


def shipped() -> list[ShippedRecipe]:
    """The recipes that ship, by name."""
    recipes = []
    for name in names():
        path = root() / f"{name}.yaml"
        comment = _opening(path)
        command = next((line for line in comment if line.startswith("idsnn ")), f"idsnn run {name}")
        recipes.append(ShippedRecipe(name, path, comment[0] if comment else "", command))
    return recipes


def find(name: str) -> Path:
    """The file of the shipped recipe ``name``, which may leave out the folder that it is grouped in.

    Raises :class:`RecipeError` with the near match and the list.
    """
    known = names()
    grouped = [each for each in known if each.rpartition("/")[2] == name]
    if name in known or len(grouped) == 1:
        return root() / f"{name if name in known else grouped[0]}.yaml"
    listed = f"The recipes that ship are {', '.join(known)}." if known else "No recipes ship with this installation."
    here = next((f for f in (name, name + ".yaml", name + ".yml") if _is_file(f)), None)
    path = (
        f" The file here is ./{here}: write it so."
        if here
        else " A path has a slash or ends in .yaml; an override has a '='."
    )
    raise RecipeError(f"no recipe is called '{shorten(name)}'.{did_you_mean(name, known)}", listed + path)


def locate(word: str) -> Path:
    """The file that a RECIPE word means: a path where it has a slash or ends in .yaml or .yml, else a name.

    A grouped name (``folder/file``) has a slash; it is taken where no such path exists.
    """
    if "/" not in word and os.sep not in word and not word.endswith(SUFFIXES):
        return find(word)
    if word in names() and not _is_file(word):
        return find(word)
    return Path(word)


def copy_to(name: str, dest: str | Path) -> Path:
    """Copies a shipped recipe to the file ``dest``, or into the folder ``dest``; whole or not at all.

    Never overwrites: raises :class:`UsageError` where the file exists, :class:`WriteError` where it cannot be written.
    """
    source = find(name)
    target = Path(dest)
    if os.path.isdir(target) or str(dest).endswith(("/", os.sep)):
        target = target / source.name
    if os.path.lexists(target):
        raise _taken(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _write_new(target, source.read_bytes())
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise WriteError(f"{display(target)} cannot be written: {reason}", "Give another place.") from None
    return target


def _taken(target: Path) -> UsageError:
    return UsageError(f"{display(target)} exists already", "Give another file name; nothing is overwritten.")


def _write_new(target: Path, raw: bytes) -> None:
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        with open(part, "xb") as stream:
            stream.write(raw)
        sync_file(part)
        _publish(part, target)
    except FileExistsError:
        raise _taken(target) from None
    finally:
        part.unlink(missing_ok=True)


def _publish(part: Path, target: Path) -> None:
    try:
        os.link(part, target)  # unlike a rename, refuses to replace what appeared meanwhile
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links
        if os.path.lexists(target):
            raise FileExistsError(target) from None
        replace(part, target)


def _is_file(name: str) -> bool:
    try:
        return Path(name).is_file()
    except (OSError, ValueError):
        return False


def _opening(path: Path) -> list[str]:
    """The words of the comment lines that a file opens with, blank ones left out."""
    words = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        if text := line.lstrip("#").strip():
            words.append(text)
    return words
