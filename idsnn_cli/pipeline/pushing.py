"""``idsnn push``: a network of a run, or a checkpoint of ours, with its recipe and its card, on the hub."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

from idsnn_cli.checkpoint import file_sha256, open_checkpoint
from idsnn_cli.errors import CheckpointError, MissingInputError, RunConflictError, UsageError, did_you_mean
from idsnn_cli.evaluation.accuracy import MeasuredNetwork
from idsnn_cli.evaluation.document import EvaluationDocument, read_evaluation
from idsnn_cli.hub.client import require_client
from idsnn_cli.hub.names import HubName, parse_hub
from idsnn_cli.hub.publishing import Sent, look, publish
from idsnn_cli.models import described_in
from idsnn_cli.pipeline.run_directory import (
    EVALUATION,
    RECORDS,
    RESOLVED,
    Record,
    RunDirectory,
    best_of,
    is_own_evaluation,
    read_records,
)
from idsnn_cli.pipeline.steps.base import Step, all_steps
from idsnn_cli.pipeline.workspace import Workspace
from idsnn_cli.recipe import dump_mapping, dump_portable, load_recipe
from idsnn_cli.recipe.data_section import DATA_SETS, data_needs
from idsnn_cli.registry import names
from idsnn_cli.report.card import UNKNOWN_LICENCE, CardFacts, render_card
from idsnn_cli.results import Result
from idsnn_cli.text import excerpt
from idsnn_cli.version import __version__

WEIGHTS, RECIPE, CARD = "model.safetensors", "recipe.yaml", "README.md"
STUDENT = "student"
_LICENCE = re.compile(r"[a-z0-9][a-z0-9.+-]*")
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class PushedFile(Result):
    """A file of the commit."""

    path: Annotated[str, "its name in the repository"]
    bytes: Annotated[int, "its size"]
    sha256: Annotated[str, "of its bytes"]


@dataclass(frozen=True, slots=True)
class Pushed(Result):
    """What `idsnn push` sent, or would send."""

    source: Annotated[str, "the checkpoint"]
    network: Annotated[str, "what it is: `student`, `teacher`, ..."]
    repository: Annotated[str, "where it goes"]
    files: Annotated[tuple[PushedFile, ...], "all in one commit"]
    card: Annotated[str, "the text of README.md"]
    message: Annotated[str, "the commit's"]
    private: Annotated[bool, "whether `--private` was given"]
    commit: Annotated[str | None, "the commit that holds the files; null of a dry run"] = None
    url: Annotated[str | None, "its address; null of a dry run"] = None
    created: Annotated[bool | None, "whether the repository was made for it; null of a dry run"] = None
    changed: Annotated[bool | None, "false where the same files were there already; null of a dry run"] = None
    replaced: Annotated[tuple[str, ...] | None, "files that were there before; null of a dry run"] = None

    def listed(self) -> str:
        """The files, in words."""
        return ", ".join(f"{each.path} ({each.bytes / 1e6:.3g} MB)" for each in self.files)


@dataclass(frozen=True, slots=True)
class Parcel:
    """What is to be sent, found out without the hub: a document of it, and the files' content."""

    target: HubName
    described: Pushed
    contents: Mapping[str, Path | bytes]


def pack(
    run: Path,
    target: str,
    *,
    network: str | None,
    licence: str | None,
    message: str | None,
    private: bool,
    say: Say,
) -> Parcel:
    """The files for ``target``, of a run's directory or of one checkpoint.

    Raises :class:`UsageError` for a target that is no repository, or ``network`` beside a file;
    :class:`MissingInputError` where there is no such network, and :class:`CheckpointError` for a file that idsnn did
    not write.
    """
    name = parse_hub(target)
    if name.file is not None or name.revision is not None:
        raise UsageError(f"{target} names a file or a revision", f"Name the repository: hf://{name.repo}.")
    if licence is not None and not _LICENCE.fullmatch(licence):
        raise UsageError(
            f"--license '{excerpt(licence)}' is no name of a licence", "Give one of the hub's: mit, cc-by-4.0."
        )
    require_client(str(name))
    if not run.exists():
        raise MissingInputError(f"{run} is not there", "Name a run's directory, by default in runs/, or a checkpoint.")
    if run.is_dir():
        path, recipe, evaluation = _of_run(run, network or STUDENT, say)
    elif network is not None:
        raise UsageError(f"--network chooses among the networks of a run, and {run} is a file", "Leave it out.")
    else:
        path, recipe, evaluation = run, None, None
    facts = _facts(path, name, licence or UNKNOWN_LICENCE, run if run.is_dir() else None)
    if evaluation is not None:
        row = next(each for each in evaluation.results if each.name == (network or STUDENT))
        facts = replace(facts, evaluation=evaluation, measured=row)
    card = render_card(facts)
    # What a program saved has none.
    plain = facts.metadata.get("recipe")
    text = recipe if recipe is not None else dump_mapping(plain) if plain else None
    contents: dict[str, Path | bytes] = {WEIGHTS: path}
    contents |= {} if text is None else {RECIPE: text.encode()}
    contents[CARD] = card.encode()
    described = Pushed(
        source=str(path),
        network=facts.kind,
        repository=str(name),
        files=tuple(_described(each, content) for each, content in contents.items()),
        card=card,
        message=message or f"Upload a {facts.kind} with idsnn {__version__}",
        private=private,
    )
    return Parcel(name, described, contents)


def push(parcel: Parcel) -> Pushed:
    """Send it: one commit with all files, or none.

    Raises :class:`HubError` where the hub refuses or is not reached, and :class:`UsageError` for a repository that is
    public already where a private one is asked for.
    """
    described = parcel.described
    remote = look(parcel.target.repo)
    if described.private and remote.commit is not None and not remote.private:
        raise UsageError(
            f"{parcel.target} is there already, and public: --private is for a repository that is made",
            "Name another, or make it private on the hub first.",
        )
    replaced = tuple(each for each in parcel.contents if each in remote.files)
    sent: Sent = publish(remote, parcel.contents, described.message, private=described.private)
    return replace(
        described,
        commit=sent.commit,
        url=sent.url,
        created=sent.created,
        changed=sent.commit != remote.commit,
        replaced=replaced,
    )


def _described(name: str, content: Path | bytes) -> PushedFile:
    if isinstance(content, Path):
        return PushedFile(name, content.stat().st_size, file_sha256(content))
    return PushedFile(name, len(content), hashlib.sha256(content).hexdigest())


def _of_run(folder: Path, network: str, say: Say) -> tuple[Path, str, EvaluationDocument | None]:
    """The file of a run's ``network``, the run's recipe for others, and what was measured of exactly this file."""
    if not (folder / RECORDS).exists():
        raise MissingInputError(f"{folder} holds no run of idsnn", "Name a run's directory, by default in runs/.")
    makers = {each.network: each for each in all_steps() if each.makes_weights}
    if network not in makers:
        raise UsageError(
            f"--network '{network}' is none of a run's.{did_you_mean(network, makers)}",
            f"Give one of {', '.join(makers)}.",
        )
    loaded = load_recipe(folder / RESOLVED)
    run = RunDirectory(folder, Workspace(loaded.recipe, loaded.name))
    records = read_records(folder)
    path = _finished(run, makers[network], records)
    evaluation = _measured(folder, network, file_sha256(path), records.get("eval"))
    if evaluation is None:
        say(f"{folder / EVALUATION} holds no figures of this {network}, so its card has none (idsnn eval makes them)")
    return path, dump_portable(loaded.recipe), evaluation


def _finished(run: RunDirectory, step: Step, records: Mapping[str, Record]) -> Path:
    """The file that ``step`` left, once it is known to be done and whole."""
    path, record = step.kept(run), records.get(step.name)
    if record is None or not path.exists():
        there = [each.network for each in all_steps() if each.makes_weights and each.kept(run).exists()]
        raise MissingInputError(
            f"{run.path} holds no {step.network}; it holds {', '.join(there) or 'no network'}",
            f"Name another with --network, or make it with idsnn {step.name}.",
        )
    if record.status != "done":
        raise MissingInputError(
            f"{run.path}: the step {step.name} has not come to its end", "Run the same command again to continue it."
        )
    if file_sha256(path) not in record.outputs.values():
        raise RunConflictError(
            f"{path} is not what the {step.name} step wrote", f"Push the file itself: idsnn push {path} hf://USER/REPO"
        )
    return path


def _measured(folder: Path, network: str, sha256: str, record: Record | None) -> EvaluationDocument | None:
    """What RUN/eval.json says, if it is whole and was measured on the file of this hash; None otherwise."""
    path = folder / EVALUATION
    if record is None or record.inputs.get(network) != sha256 or not path.exists():
        return None
    if not is_own_evaluation(folder, record):
        return None
    try:
        found = read_evaluation(json.loads(path.read_bytes()))
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}", "Make it again with idsnn eval.") from None
    rows: tuple[MeasuredNetwork, ...] = found.results
    return found if any(each.name == network for each in rows) else None


def _facts(path: Path, name: HubName, licence: str, run: Path | None) -> CardFacts:
    """What the checkpoint says of itself. Raises :class:`CheckpointError` for one that idsnn did not write."""
    with open_checkpoint(path) as file:
        metadata, architecture = file.metadata, described_in(file.metadata)
    if metadata is None or architecture is None:
        raise CheckpointError(
            f"{path} is not a checkpoint of idsnn, so there is nothing to say of it in a card",
            "Give a network that idsnn made.",
        )
    dataset = metadata.get("recipe", {}).get("data", {}).get("dataset")
    needs = data_needs(dataset) if dataset in names(DATA_SETS) else None
    option = None if needs is None else f"{dataset}:PATH" if needs.path else str(dataset)
    on_hub = None if needs is None else needs.hub
    return CardFacts(name.repo, licence, architecture, metadata, on_hub, option, origins=_origins(metadata, run))


def _origins(metadata: Mapping[str, Any], run: Path | None) -> tuple[tuple[str, Mapping[str, str]], ...]:
    """The published networks that its weights, or its teacher's, come from, each with what it gave.

    The teacher of ``run`` counts where the network was started from it, or trained against this very file.
    """
    found: dict[str, Mapping[str, str]] = {}
    provenance: Any = metadata.get("provenance", {})
    inputs, level, mapped = provenance.get("inputs", {}), provenance, False
    while isinstance(level, Mapping):
        if isinstance(level.get("source"), Mapping):
            found["weights from"] = level["source"]
        mapped = mapped or "source_tensors_sha256" in level
        level = level.get("start")
    if run is None or metadata.get("kind") == "teacher":
        return tuple(found.items())
    if mapped and "weights from" not in found and _is_own_start(metadata, run):
        for path in _own_teachers(run)[:1]:
            source = _source_of(path)
            found |= {} if source is None else {"weights from": source}
    for path in _own_teachers(run):
        source = _source_of(path)
        if source is not None and file_sha256(path) == inputs.get("teacher"):
            found["teacher from"] = source
    return tuple(found.items())


def _own_teachers(run: Path) -> list[Path]:
    last = run / "teacher.safetensors"
    return [path for path in (last, best_of(last)) if path.exists()]


def _is_own_start(metadata: Mapping[str, Any], run: Path) -> bool:
    """Whether what the network began with was mapped from the run's own teacher."""
    if load_recipe(run / RESOLVED).recipe.init.source is not None:
        return False
    begun, first = metadata.get("provenance", {}).get("inputs", {}).get("start"), run / "init.safetensors"
    return begun is None or (first.exists() and file_sha256(first) == begun)


def _source_of(path: Path) -> Mapping[str, str] | None:
    """The published network that a checkpoint of ours was read from."""
    with open_checkpoint(path) as file:
        source = (file.metadata or {}).get("provenance", {}).get("source")
    return source if isinstance(source, Mapping) else None
