"""The mapping rules as options of a command: ``--channels uniform`` is the override ``init.channels=uniform``."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Annotated, Any

import typer

# The key in a recipe's ``init`` section, the option's value in its help, and what it does.
OPTIONS: dict[str, tuple[str, str]] = {
    "rule": ("RULE", "A whole set of the rules below: loop (the paper's) or best (the benchmark's)."),
    "blocks": (
        "RULE",
        "Which blocks: first, proportional, last, ends, greedy, or a list for each stage: [[0,1],[0,3],[0,5],[0,2]].",
    ),
    "channels": ("RULE", "Which channels: loop, uniform, importance, merge, random."),
    "multiplicity": ("RULE", "What reads a repeated channel: ignore (the paper), or divide (keeps the function)."),
    "noise": ("SHARE", "Noise on repeated channels, in standard deviations of their kernel."),
    "kernels": ("RULE", "Kernels of another size: centre or area."),
    "bottleneck": ("RULE", "A bottleneck's 1x1 convolutions for a basic block: fold or drop."),
    "shortcut": ("RULE", "Projections: copy or random."),
    "bare_shortcut": ("RULE", "A projection where the source has none: random or select."),
    "head": ("RULE", "The linear layer: random, copy, match (copy where there are as many classes), map."),
    "class_map": ("LIST", "With --head map: the source class, or null, for each class: [0,5,null]."),
    "rescale": ("RULE", "none, variance (of kernels), threshold (gamma and beta by the activations)."),
    "convert": (
        "RULE",
        "Conversion without training: none, weight-normalisation, threshold-balancing, learnt-thresholds (QCFS).",
    ),
    "percentile": ("PERCENT", "Of --rescale threshold and --convert: lambda's percentile, 99.9 unless given."),
    "calibrate": ("BATCHES", "With --convert: correct each channel's bias on so many batches of training images."),
    "reestimate": ("BATCHES", "Re-estimate BatchNorm in the spiking network on so many batches of training images."),
}


def with_mapping_options(command: Callable[..., None]) -> Callable[..., None]:
    """``command`` with an option for each mapping rule; it gets those given as ``mapping``, a list of overrides."""

    @wraps(command)
    def wrapped(**options: Any) -> None:
        given = {key: options.pop(key) for key in OPTIONS}
        mapping = [f"init.{key}={value}" for key, value in given.items() if value is not None]
        command(**options, mapping=mapping)

    signature = inspect.signature(command, eval_str=True)
    kept = [each for name, each in signature.parameters.items() if name != "mapping"]
    added = [
        inspect.Parameter(key, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=_annotation(key))
        for key in OPTIONS
    ]
    ordered = [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in kept]
    wrapped.__signature__ = signature.replace(parameters=[*ordered, *added])  # type: ignore[attr-defined]  # typer reads it
    wrapped.__annotations__ = {each.name: each.annotation for each in (*ordered, *added)} | {"return": None}
    return wrapped


def _annotation(key: str) -> Any:
    metavar, words = OPTIONS[key]
    option = typer.Option(f"--{key.replace('_', '-')}", help=words, metavar=metavar, rich_help_panel="Mapping rules")
    return Annotated[str | None, option]
