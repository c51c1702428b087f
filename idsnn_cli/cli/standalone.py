"""``idsnn init --from``: a session without a recipe or a run directory."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

from idsnn_cli.cli.console import Console
from idsnn_cli.cli.session import device_override, session_for
from idsnn_cli.errors import MissingInputError, UsageError
from idsnn_cli.outputs import check_output
from idsnn_cli.published import Source
from idsnn_cli.recipe import recipe_from_mapping, split_words

# Fills the place of a data section that the overrides do not give; digits need no files.
PLACEHOLDER = {"dataset": "digits"}


def standalone_session(
    console: Console,
    words: list[str] | None,
    *,
    source: Source,
    arch: str | None,
    num_classes: int | None,
    foreign: dict[str, Any],
    output: Path | None,
    device: str | None,
    force: bool,
    conflicting: dict[str, object],
) -> tuple[Any, Path]:
    """The session of ``--from`` and the file to write.

    ``foreign`` holds the options about a foreign source by their key in ``teacher``. The student's stem, shortcuts and
    classes are the source's unless options or overrides say otherwise. Raises :class:`UsageError` where something that
    is needed is missing, or belongs to a recipe; :class:`WriteError` where ``output`` cannot be written, or is
    there already and ``force`` does not say to replace it.
    """
    for name, value in conflicting.items():
        if value is not None:
            raise UsageError(f"{name} does not go with --from", "Leave it out: --from needs no run directory.")
    overrides = overrides_with(words, "--from")
    if arch is None:
        raise UsageError("--from needs --arch", "Name the student, for example --arch spiking-resnet18.")
    if output is None:
        raise UsageError("--from needs -o FILE", "Name the file to write, for example -o init.safetensors.")
    if isinstance(source, Path) and not source.exists():
        raise MissingInputError(f"the network to start from is not there: {source}", "Correct --from.")
    check_output(output, force=force)
    session = mapping_session(
        console,
        overrides,
        source=source,
        arch=arch,
        num_classes=num_classes,
        foreign=foreign,
        device=device,
        force=force,
        origin="the options of init --from",
    )
    return session, output


def mapping_session(
    console: Console,
    overrides: list[str],
    *,
    source: Source,
    arch: str,
    num_classes: int | None,
    foreign: dict[str, Any],
    device: str | None = None,
    force: bool = False,
    origin: str,
) -> Any:
    """A session that maps ``source`` into the student ``arch``; ``origin`` says in an error where its recipe is from.

    The student's stem, shortcuts and classes are the source's unless options or overrides say otherwise.
    """
    from idsnn_cli.initializer import classes_or_source, open_source
    from idsnn_cli.pipeline.own_scheme import make_reading

    with ExitStack() as stack:
        table = None if "scheme" not in foreign else Path(foreign["scheme"])
        reading = make_reading(foreign.get("weights"), foreign.get("allow_unused", False), table)
        network = open_source(source, stack, reading, download=False)
        found, classes = network.architecture, classes_or_source(num_classes, network)
        given = [word for word in overrides if word.startswith("teacher.normalise")]
        named = foreign.get("normalise", "auto") != "auto" or any(word != "teacher.normalise=auto" for word in given)
        if named and "input.mean" in network.names:
            raise UsageError(f"{source} carries its own input normalisation", "Leave the normalisation out.")
    student = {"arch": arch, "stem": found.named_stem, "shortcut": found.named_shortcut}
    plain: dict[str, Any] = {"data": dict(PLACEHOLDER), "student": student, "teacher": foreign}
    recipe = recipe_from_mapping(plain, [*overrides, *device_override(device)], origin=origin)
    session = session_for(
        console,
        recipe,
        name=source.name,
        run_dir=Path(),
        standalone=True,
        force=force,
        num_classes_given=classes,
        data_given=any(word.startswith("data.dataset=") for word in overrides),
    )
    _refuse_missing(recipe, network, recipe.student.architecture(classes), data_given=session.data_given)
    return session


def overrides_with(words: list[str] | None, option: str) -> list[str]:
    """The overrides in ``words``. Raises :class:`UsageError` for a recipe, and for what ``option`` would not read."""
    word, overrides = split_words(words or [])
    if word is not None:
        raise UsageError(f"both {option} and the recipe '{word}' are given", "Use one of them.")
    data_named = any(word.startswith("data.dataset=") for word in overrides)
    for word in overrides:
        key = word.partition("=")[0]
        section = key.partition(".")[0]
        if section == "data" and not data_named:
            raise UsageError(f"{word} is about no data set", "Give data.dataset=NAME with it, or leave it out.")
        read = key.startswith("teacher.normalise") or key == "distill.batch_size"
        of_runs = section in ("teacher", "pretrain", "distill", "eval") and not read
        if key in ("student.arch", "init.source") or of_runs:
            raise UsageError(f"{word} does not go with {option}", "Leave it out: nothing would read it.")
    return overrides


def _refuse_missing(recipe: Any, network: Any, student: Any, *, data_given: bool) -> None:
    """Raise :class:`UsageError` for a start that needs no source, or images that are not named.

    ``network`` is the source, ``student`` the description of what is made of it.
    """
    from idsnn_cli.initializer import merges

    init = recipe.init
    if init.rule == "none":
        raise UsageError("init.rule none needs no source", "Leave the rule out, or give loop or best.")
    if data_given:
        return
    rules = init.rules()
    merging = merges(rules, network.architecture, student, network.names)
    needs = {
        "re-estimating BatchNorm (reestimate)": init.reestimate > 0,
        **{str(rule): rule.always_looks or (rule.merges and merging) for rule in rules.used()},
        "calibrating biases (calibrate)": init.calibrate > 0,
    }
    wanted = [words for words, needed in needs.items() if needed]
    if wanted:
        raise UsageError(
            f"training images are needed by {' and '.join(wanted)}",
            "Give data.dataset=NAME (and data.path or data.root), or choose other rules.",
        )
