"""What the schema allows at a key, in plain words: one description for the many ways pydantic has to say no."""

from __future__ import annotations

import types
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from idsnn_cli.recipe.schema import Recipe
from idsnn_cli.sources.names import Published, forms

_BOUNDS = ("ge", "gt", "le", "lt")


def options(annotation: Any, metadata: tuple[Any, ...] = ()) -> Iterator[tuple[Any, dict[str, Any]]]:
    """The alternatives of a type, each with its bounds (``ge``, ``gt``, ``le``, ``lt``), unions taken apart."""
    origin = get_origin(annotation)
    if origin is Annotated:
        inner, *more = get_args(annotation)
        yield from options(inner, (*metadata, *more))
    elif origin in (Union, types.UnionType):
        for part in get_args(annotation):
            yield from options(part, metadata)
    else:
        yield annotation, _bounds(metadata)


def _bounds(metadata: tuple[Any, ...]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for item in metadata:
        if isinstance(item, FieldInfo):
            found |= _bounds(tuple(item.metadata))
        found |= {name: getattr(item, name) for name in _BOUNDS if getattr(item, name, None) is not None}
    return found


def model_of(annotation: Any) -> type[BaseModel] | None:
    """The section that a type is or may be."""
    for option, _ in options(annotation):
        if isinstance(option, type) and issubclass(option, BaseModel):
            return option
    return None


def annotation_at(path: tuple[str | int, ...]) -> Any:
    """The type at ``path`` of a recipe, bounds included, or None where the schema has no such key."""
    annotation: Any = Recipe
    for part in path:
        if isinstance(part, str):
            model = model_of(annotation)
            field = model.model_fields.get(part) if model else None
            if field is None:
                return None
            annotation = Annotated[field.annotation, field]
        else:
            annotation = _item_of(annotation, part)
    return annotation


def _item_of(annotation: Any, index: int) -> Any:
    for option, _ in options(annotation):
        if get_origin(option) is tuple:
            kinds = get_args(option)
            return kinds[0] if kinds[-1] is Ellipsis else kinds[min(index, len(kinds) - 1)]
    return None


def allowed(annotation: Any) -> str:
    """What a type allows: ``an integer of 1 or more, or null``."""
    found = list(options(annotation))
    named = [str(word) for option, _ in found if get_origin(option) is Literal for word in get_args(option)]
    words = [f"one of {', '.join(named)}"] if named else []
    words += [_words(option, bounds) for option, bounds in found if get_origin(option) is not Literal]
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])}, or {words[-1]}"


def _words(option: Any, bounds: dict[str, Any]) -> str:
    if get_origin(option) is tuple:
        kinds = get_args(option)
        if kinds[-1] is Ellipsis:
            return f"a list, each item {allowed(kinds[0])}"
        return f"a list of {len(kinds)}, each {allowed(kinds[0])}"
    model = model_of(option)
    if model:
        return f"a mapping with the keys {', '.join(model.model_fields)}"
    simple = {
        bool: "true or false",
        str: "text",
        Path: "a path",
        Published: forms(),
        type(None): "null",
    }
    if option in simple:
        return simple[option]
    return {int: "an integer", float: "a number"}.get(option, "another value") + _range(bounds)


def _range(bounds: dict[str, Any]) -> str:
    # The bound of counts keeps them in 32 bits; nobody needs to hear of it.
    bounds = {name: bound for name, bound in bounds.items() if (name, bound) != ("le", 2**31 - 1)}
    if "ge" in bounds and "le" in bounds:
        return f" from {bounds['ge']} to {bounds['le']}"
    forms = {"ge": "of {} or more", "gt": "above {}", "le": "of {} or less", "lt": "below {}"}
    words = [forms[name].format(bounds[name]) for name in _BOUNDS if name in bounds]
    return f" {' and '.join(words)}" if words else ""


def literals(annotation: Any) -> list[str]:
    """The words that a type allows by name."""
    return [
        word
        for option, _ in options(annotation)
        if get_origin(option) is Literal
        for word in get_args(option)
        if isinstance(word, str)
    ]


def admits(annotation: Any, kind: type) -> bool:
    """Whether a value of ``kind`` (bool or float) may stand where the schema says ``annotation``."""
    return any(option is kind for option, _ in options(annotation))


@cache
def _homes() -> tuple[tuple[tuple[str, ...], type[BaseModel]], ...]:
    found: list[tuple[tuple[str, ...], type[BaseModel]]] = []

    def visit(path: tuple[str, ...], model: type[BaseModel]) -> None:
        found.append((path, model))
        for key, field in model.model_fields.items():
            if inner := model_of(field.annotation):
                visit((*path, key), inner)

    visit((), Recipe)
    return tuple(found)


def owners(key: str) -> list[tuple[str, ...]]:
    """The paths of the sections (``()`` for the top level) that have ``key``."""
    return [path for path, model in _homes() if key in model.model_fields]


# What papers and other tools call keys that have another name here.
_OTHER_NAMES: dict[str, tuple[str, ...]] = {
    "t": ("timesteps", "temperature"),
    **dict.fromkeys(("time_steps", "num_steps", "nsteps", "time_step", "n_steps"), ("timesteps",)),
    **dict.fromkeys(("learning_rate", "learningrate", "lr0", "base_lr"), ("lr",)),
    **dict.fromkeys(("bs", "batch", "batchsize"), ("batch_size",)),
    **dict.fromkeys(("epoch", "num_epochs", "n_epochs"), ("epochs",)),
    **dict.fromkeys(("threshold", "vth", "v_th", "thresh"), ("v_threshold",)),
    **dict.fromkeys(("leak", "beta"), ("decay",)),
    **dict.fromkeys(("wd", "l2"), ("weight_decay",)),
    **dict.fromkeys(("optim", "opt", "optimiser"), ("optimizer",)),
    **dict.fromkeys(("scheduler", "lr_scheduler", "lr_schedule"), ("schedule",)),
    **dict.fromkeys(("model", "network", "architecture"), ("arch",)),
    "grad_clip": ("clip_norm",),
    "amp": ("precision",),
}


def meant(key: str) -> tuple[str, ...]:
    """The keys that ``key`` goes by elsewhere: ``T`` is ``timesteps``, or in distillation ``temperature``."""
    return _OTHER_NAMES.get(key.lower(), ())
