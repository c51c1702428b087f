"""The choices that a mapping is made by, as data: what a recipe names and the initializer follows.

Each option stands here once, with its type, default, bounds and words. The recipe's ``init`` section, the options of
``idsnn init`` and ``idsnn inspect --plan``, and the rows of the pages about them are made from that.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

from idsnn_cli import rulebook
from idsnn_cli.errors import UsageError
from idsnn_cli.rulebook import NONE, Rule

HeadRule = Literal["random", "copy", "match", "map"]
# How random kernels are drawn; idsnn_cli/models/building.py has the equations.
RandomKernels = Literal["he", "torch"]
BlockLists = tuple[tuple[int, ...], ...]
# Which percentile lambda is where none is given: the largest but for one activation in a thousand.
PERCENTILE = 99.9


@dataclass(frozen=True, slots=True)
class Option:
    """What is said of an option, once.

    ``help`` is its line in ``--help``, and ``words`` its row of docs/recipes.md; code in them stands between
    backticks. In ``help`` ``{choices}`` stands for "a, b (hint), c" and ``{either}`` for "a, b or c"; without it no
    command has the option. ``choices`` says that rules of the rule book are to choose from, whose own words follow
    ``words``. ``ge``, ``gt`` and ``le`` are bounds. ``fits_spikes`` marks what makes weights fit for spikes, which
    comes after all that gives a network its shape.
    """

    metavar: str
    help: str
    words: str
    choices: bool = False
    ge: float | None = None
    gt: float | None = None
    le: float | None = None
    fits_spikes: bool = False


@dataclass(frozen=True, slots=True)
class Rules:
    """How a source network's tensors become a target's (Section 3.2.2); the defaults are the paper's.

    ``blocks``: which source block each target block takes, by a rule or as one list of source blocks for each stage.
    ``channels``: which source channels make up a target's channels, one choice for each residual stream and each inner
    width; ``loop`` is the paper's, and only it does not agree with what option-A shortcuts carry where widths change.
    ``input``: what the stem reads as each channel of images that have another number of them.
    ``multiplicity``: ``divide`` divides what reads a repeated channel by how often it is there (Net2Net), so that
    growth keeps the function; ``noise``, relative to a kernel's standard deviation, is added to repeated channels.
    ``kernels``: kernels of another size are cut or padded around their ``centre``, or resized by ``area``.
    ``bottleneck``: for a basic block, a bottleneck's 1x1 convolutions are folded in (``fold``) or left out (``drop``).
    ``shortcut``: take projections or leave them random (the authors' code leaves them); ``bare_shortcut``: a projection
    where the source has none starts random or as a selection of channels. ``head``: leave the linear layer random (the
    paper), copy it, copy it only where there are as many classes (``match``), or take the source class that
    ``class_map`` names for each target class (None: random). ``random``: how kernels are drawn that are not taken.
    ``rescale``: ``variance`` multiplies each kernel by sqrt(O k^2 / (O' k'^2)) (the authors' code, off by default),
    ``threshold`` balances gamma and beta by v_threshold / lambda,
    lambda the ``percentile`` of the source's activation there. ``convert``: conversion without training, see
    :mod:`idsnn_cli.initializer.conversion`: all weights are scaled so that spike rates times lambda are the
    activations, with lambda the ``percentile`` of the ANN's activations (``weight-normalisation``), of the spiking
    network's own input currents (``threshold-balancing``), or what a QCFS source learnt (``learnt-thresholds``).
    Blocks, channels, input, kernels, rescale and convert take any rule of :mod:`idsnn_cli.rulebook`.
    """

    blocks: Annotated[
        str | BlockLists,
        Option(
            "RULE",
            "Which blocks: {choices}, or a list for each stage: `[[0,1],[0,3],[0,5],[0,2]]`.",
            "Which source block each student block takes, or one list for each stage.",
            choices=True,
        ),
    ] = "proportional"
    channels: Annotated[
        str,
        Option(
            "RULE",
            "Which channels: {choices}.",
            "Which source channels, one choice for each residual stream and inner width.",
            choices=True,
        ),
    ] = "loop"
    input: Annotated[
        str,
        Option(
            "RULE",
            "Image channels of another number: {choices}.",
            "What the stem reads as each image channel where the source's images have another number of them.",
            choices=True,
        ),
    ] = "loop"
    multiplicity: Annotated[
        Literal["ignore", "divide"],
        Option(
            "RULE",
            "What reads a repeated channel: `ignore` (the paper), or `divide` (keeps the function).",
            "`divide` divides what reads a repeated channel by how often it is there, so that growth keeps the "
            "function.",
        ),
    ] = "ignore"
    noise: Annotated[
        float,
        Option(
            "SHARE",
            "Noise on repeated channels, in standard deviations of their kernel.",
            "Added to repeated channels, in standard deviations of their kernel.",
            ge=0,
        ),
    ] = 0.0
    kernels: Annotated[
        str, Option("RULE", "Kernels of another size: {either}.", "Kernels of another size.", choices=True)
    ] = "centre"
    bottleneck: Annotated[
        Literal["fold", "drop"],
        Option(
            "RULE",
            "A bottleneck's 1x1 convolutions for a basic block: {either}.",
            "For a basic block: a bottleneck's 1x1 convolutions are multiplied in, or left out.",
        ),
    ] = "fold"
    shortcut: Annotated[
        Literal["copy", "random"],
        Option("RULE", "Projections: {either}.", "Take projections, or leave them random as the authors' code does."),
    ] = "copy"
    bare_shortcut: Annotated[
        Literal["random", "select"],
        Option(
            "RULE",
            "A projection where the source has none: {either}.",
            "A projection where the source has none: random, or a selection of channels.",
        ),
    ] = "random"
    head: Annotated[
        HeadRule,
        Option(
            "RULE",
            "The linear layer: `random`, `copy`, `match` (copy where there are as many classes), `map`.",
            "The linear layer. `match` copies it where there are as many classes; `map` by `class_map`. The paper "
            "leaves it random.",
        ),
    ] = "random"
    class_map: Annotated[
        tuple[int | None, ...],
        Option(
            "LIST",
            "With `--head map`: the source class, or null, for each class: `[0,5,null]`.",
            "With `map`: the source class of each class, null for a random one.",
        ),
    ] = ()
    random: Annotated[
        RandomKernels,
        Option(
            "RULE",
            "Kernels that stay random: `he` (normal, by fan out), or `torch` (its default, as the release).",
            "How the kernels of convolutions that are not taken are drawn, with rule `none` all: `he` normal with "
            "variance 2 / (out k^2), `torch` uniform within 1 / sqrt(fan in), torch's default and the authors' code's. "
            "The baseline's, too.",
        ),
    ] = "he"
    rescale: Annotated[
        str,
        Option("RULE", "{choices}.", "What multiplies the values that are taken.", choices=True, fits_spikes=True),
    ] = NONE
    convert: Annotated[
        str,
        Option(
            "RULE",
            "Conversion without training: {choices}.",
            "[Conversion without training](conversion.md): all weights scaled so that spike rates stand for "
            "activations.",
            choices=True,
            fits_spikes=True,
        ),
    ] = NONE
    percentile: Annotated[
        float,
        Option(
            "PERCENT",
            "Of `--rescale threshold` and `--convert`: lambda's percentile, 99.9 unless given.",
            "With `rescale` threshold and `convert`: lambda is this percentile of the activations "
            "(`threshold-balancing`: of the input currents).",
            gt=0,
            le=100,
            fits_spikes=True,
        ),
    ] = PERCENTILE

    def __post_init__(self) -> None:
        for key, option in OF_RULES.items():
            _check(key, getattr(self, key), option)
        used = self.used()
        if self.percentile != PERCENTILE and not any(rule.asks & {"thresholds", "percentile"} for rule in used):
            raise UsageError(
                f"percentile is read by neither rescale {self.rescale} nor convert {self.convert}", "Leave it out."
            )
        if self.convert != NONE and self.rescale != NONE:
            raise UsageError(
                f"convert {self.convert} and rescale {self.rescale} would both scale the weights", "Give one of them."
            )
        mapped = len(self.class_map)
        if (self.head == "map") is not (mapped > 0):
            raise UsageError(
                f"head map and class_map go together, but head is {self.head} and {mapped} classes are mapped",
                "Give head: map together with class_map, one source class (or null) for each target class.",
            )

    def used(self) -> tuple[Rule, ...]:
        """The rules of the rule book that are chosen, in the order of the keys."""
        chosen = {key: getattr(self, key) for key, option in OF_RULES.items() if option.choices}
        return tuple(rulebook.rule(key, name) for key, name in chosen.items() if isinstance(name, str) and name != NONE)

    def searched_blocks(self) -> Rule | None:
        """The rule that chooses blocks by running the source, None where they are chosen without."""
        return next((rule for rule in self.used() if rule.searches), None)

    @property
    def always_looks(self) -> bool:
        """Whether a network has to run on images: the source before a plan is made, or what is made of it."""
        return any(rule.always_looks for rule in self.used())

    @property
    def may_merge(self) -> bool:
        """Whether the source has to run where the target has fewer channels."""
        return any(rule.merges for rule in self.used())

    @property
    def reads_learnt(self) -> bool:
        """Whether it takes a source that learnt its thresholds."""
        return any("learnt" in rule.asks for rule in self.used())

    @property
    def looks_at_activations(self) -> bool:
        """Whether a network may have to run on images."""
        return self.always_looks or self.may_merge

    def unscaled(self) -> Rules:
        """These rules without what multiplies the tensors that they make: neither ``rescale`` nor ``convert``."""
        return replace(self, **{key: getattr(_DEFAULT, key) for key in _FITTING})

    def of_shape(self) -> Rules:
        """These rules for a network without spikes: what only a spiking target can have is left out."""
        spiking = any(rule.kind == "rescale" and rule.asks & {"thresholds", "neuron"} for rule in self.used())
        return replace(self.unscaled(), rescale=NONE if spiking else self.rescale)

    def without_images(self) -> Rules:
        """These rules with blocks and channels that need no images: others, but as many values of each kind."""
        blocks = "proportional" if self.searched_blocks() is not None else self.blocks
        return replace(self, blocks=blocks, channels="uniform" if self.may_merge else self.channels)

    def for_own_shape(self) -> Rules:
        """What is left where a source has the target's shape already: all is copied, and made fit for spikes."""
        return Rules(head="copy", random=self.random, **{key: getattr(self, key) for key in _FITTING})

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready, without what is at its default beyond the four rules that every plan names."""
        plain = {field.name: getattr(self, field.name) for field in fields(self)}
        kept = ("blocks", "shortcut", "head", "rescale")
        plain = {key: value for key, value in plain.items() if key in kept or value != getattr(_DEFAULT, key)}
        return {key: _lists(value) for key, value in plain.items()}

    @staticmethod
    def from_dict(plain: dict[str, Any]) -> Rules:
        """What :meth:`to_dict` gave. Raises :class:`UsageError` or :class:`TypeError` for anything else."""
        if not isinstance(plain, dict):
            raise TypeError(f"rules are {type(plain).__name__}")
        values = dict(plain)
        for key in ("blocks", "class_map"):
            if isinstance(values.get(key), list):
                values[key] = tuple(tuple(each) if isinstance(each, list) else each for each in values[key])
        rules = Rules(**values)
        blocks = rules.blocks if isinstance(rules.blocks, tuple) else ()
        if not all(isinstance(each, tuple) and all(_is_place(block) for block in each) for each in blocks):
            raise UsageError("blocks lists what is no block", "Give one list of source blocks for each stage.")
        if type(rules.noise) not in (int, float):
            raise TypeError("noise is not a number")
        if not isinstance(rules.class_map, tuple) or not all(c is None or _is_place(c) for c in rules.class_map):
            raise UsageError("class_map lists what is no class", "Give one source class, or null, for each.")
        return rules


def kind_of(key: str) -> Any:
    """The type of an option of :class:`Rules`, without what is said of it."""
    return get_args(_HINTS[key])[0]


def choices(key: str) -> tuple[str, ...]:
    """What an option of :class:`Rules` is chosen from by name; nothing for numbers and lists."""
    if OF_RULES[key].choices:
        return rulebook.names(key)
    kind = kind_of(key)
    return get_args(kind) if get_origin(kind) is Literal else ()


def help_line(key: str) -> str:
    """The option in a line of help, with code between backticks."""
    hints = {rule.name: rule.hint for rule in rulebook.rules(key)} if OPTIONS[key].choices else {}
    names = [f"`{name}`" for name in choices(key)] if key in OF_RULES else []
    hinted = [f"{name} ({hint})" if (hint := hints.get(name[1:-1])) else name for name in names]
    return OPTIONS[key].help.replace("{choices}", ", ".join(hinted)).replace("{either}", _joined(names, "or"))


def page_words(key: str) -> str:
    """The option in a row of docs/recipes.md."""
    each = [f"`{rule.name}`: {rule.words}" for rule in rulebook.rules(key)] if OPTIONS[key].choices else []
    every = [rule for kind in OF_RULES if OF_RULES[kind].choices for rule in rulebook.rules(kind)]
    looking = _joined([f"`{rule.name}`" for rule in every if rule.always_looks or rule.merges], "and")
    return OPTIONS[key].words.replace("{looking}", looking) + (f" {'; '.join(each)}." if each else "")


def _joined(names: list[str], word: str) -> str:
    return f"{', '.join(names[:-1])} {word} {names[-1]}" if len(names) > 1 else "".join(names)


def _said(hint: Any) -> Option:
    return next(each for each in get_args(hint) if isinstance(each, Option))


def _check(key: str, value: Any, option: Option) -> None:
    """Raise :class:`UsageError` for a choice that there is not, or a number out of bounds."""
    known = choices(key)
    if known and value not in known and not (key == "blocks" and isinstance(value, tuple)):
        raise UsageError(f"{key} is {value!r}", f"Give one of {', '.join(known)}.")
    if option.ge is not None and not option.ge <= value < math.inf:
        raise UsageError(f"{key} is {value}", f"Give a finite number of {option.ge:g} or more.")
    if option.gt is not None and option.le is not None and not option.gt < value <= option.le:
        raise UsageError(f"{key} is {value}", f"Give a number above {option.gt:g} and up to {option.le:g}.")


def _is_place(value: Any) -> bool:
    return type(value) is int and value >= 0


def _lists(value: Any) -> Any:
    return [_lists(each) for each in value] if isinstance(value, tuple) else value


_HINTS = get_type_hints(Rules, include_extras=True)
# What is said of each of the rules.
OF_RULES: dict[str, Option] = {key: _said(hint) for key, hint in _HINTS.items()}
_FITTING = tuple(key for key, option in OF_RULES.items() if option.fits_spikes)

# All keys of a recipe's ``init`` section, as help lists them. Those beside the rules have their types in the section.
OPTIONS: dict[str, Option] = {
    "rule": Option(
        "RULE",
        "A whole set of the rules below: `loop` (the paper's) or `best` (the benchmark's).",
        "A whole set of the keys below: the paper's, the one that started best in the "
        "[benchmark](../benchmarks/README.md#which-start-is-best), or nothing. Keys beside it replace its own; beside "
        "`none` they say nothing, but for `random` and `reestimate`.",
    ),
    **OF_RULES,
    "calibrate": Option(
        "BATCHES",
        "With `--convert`: correct each channel's bias on so many batches of training images.",
        "With `convert`: batches of training images on which each channel's bias is corrected by its mean spike rate; "
        "0: not.",
    ),
    "reestimate": Option(
        "BATCHES",
        "Re-estimate BatchNorm in the spiking network on so many batches of training images.",
        "Batches of training images on which BatchNorm's statistics are measured anew in the spiking network; 0: not.",
    ),
    "images": Option(
        "COUNT",
        "",
        "Training images, each once, for {looking}, which watch a network run; all where there are fewer.",
    ),
    "source": Option("CKPT", "", "Start from this ResNet instead of the teacher."),
}

_DEFAULT = Rules()
# What `rule: best` stands for, and the batches on which it re-estimates BatchNorm: of all rules that
# benchmarks/initialisation.py scored, those after which a student was best after three epochs (benchmarks/README.md).
# What was not scored stays the paper's, whose own rule is Rules() without re-estimation.
BEST = Rules(blocks="proportional", channels="merge", multiplicity="divide", bare_shortcut="select", head="match")
BEST_REESTIMATE = 20
