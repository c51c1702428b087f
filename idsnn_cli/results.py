"""What commands find out, as dataclasses: one ``to_dict`` for all, and the words that the page about JSON is made of.

A field says what it holds beside its type: ``top1: Annotated[float, "percent, after the last step"]``.
"""

from __future__ import annotations

import types
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, Field, dataclass, fields
from pathlib import PurePath
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints


@dataclass(frozen=True, slots=True)
class Result:
    """Base of every dataclass that a command's JSON holds. A field ``class_`` is the key ``class``."""

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready, in the order of the fields: results become dictionaries, tuples lists, paths text."""
        return {key_of(field.name): plain(getattr(self, field.name)) for field in fields(self)}


def key_of(name: str) -> str:
    """The JSON key of a field: a Python keyword stands with an underscore behind it."""
    return name.removesuffix("_")


def plain(value: Any) -> Any:
    """``value`` as JSON knows it."""
    if isinstance(value, Result):
        return value.to_dict()
    if isinstance(value, Mapping):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    return str(value) if isinstance(value, PurePath) else value


def read(annotation: Any, value: Any) -> Any:
    """The result of type ``annotation`` whose JSON is ``value``: what :func:`plain` made, back again.

    A key that is not there takes the field's default. Raises :class:`KeyError` where it has none.
    """
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return read(arguments[0], value)
    if origin in (Union, types.UnionType):
        inner = [each for each in arguments if each is not type(None)]
        return value if value is None else read(inner[0], value)
    if origin in (list, tuple):
        return origin(read(arguments[0], each) for each in value)
    if getattr(origin, "__name__", "") in ("dict", "Mapping"):
        return {key: read(arguments[1], each) for key, each in value.items()}
    if not (isinstance(annotation, type) and issubclass(annotation, Result)):
        return value
    hints = get_type_hints(annotation)
    there = [each.name for each in fields(annotation) if key_of(each.name) in value or _required(each)]
    return annotation(**{name: read(hints[name], value[key_of(name)]) for name in there})


def _required(field: Field[Any]) -> bool:
    return field.default is MISSING and field.default_factory is MISSING


@dataclass(frozen=True, slots=True)
class Key:
    """One key of a result: its JSON type in words, what it holds, and the result that is nested there."""

    name: str
    kind: str
    words: str
    nested: type[Result] | None


def keys(result: type[Result]) -> Iterator[Key]:
    """The keys of a result's JSON, in order."""
    hints = get_type_hints(result, include_extras=True)
    for field in fields(result):
        yield key_for(key_of(field.name), hints[field.name])


def key_for(name: str, annotation: Any, words: str = "") -> Key:
    """The key ``name`` of a value of this type; ``words`` are those of its annotation unless given."""
    if get_origin(annotation) is Annotated:
        annotation, *said = get_args(annotation)
        words = words or next((each for each in said if isinstance(each, str)), "")
    return Key(name, json_type(annotation), words, _nested(annotation))


def json_type(annotation: Any) -> str:
    """A type in the words of JSON: ``list of numbers``, ``text or null``."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return json_type(arguments[0])
    if origin in (Union, types.UnionType):
        parts = [json_type(each) for each in arguments if each is not type(None)]
        return " or ".join(dict.fromkeys([*parts, *(["null"] if type(None) in arguments else [])]))
    if origin is Literal:
        return " or ".join(f"`{each}`" for each in arguments)
    if origin in (list, tuple) or getattr(origin, "__name__", "") == "Sequence":
        inner = arguments[0] if arguments else Any
        return f"list of {json_type(inner)}"
    if getattr(origin, "__name__", "") in ("dict", "Mapping"):
        return f"object of {json_type(arguments[1])}"
    simple = {bool: "true or false", int: "integer", float: "number", str: "text", type(None): "null", Any: "anything"}
    if annotation in simple:
        return simple[annotation]
    if isinstance(annotation, type) and issubclass(annotation, PurePath):
        return "text"
    return annotation.__name__ if isinstance(annotation, type) else str(annotation)


def _nested(annotation: Any) -> type[Result] | None:
    if isinstance(annotation, type) and issubclass(annotation, Result):
        return annotation
    return next((found for each in get_args(annotation) if (found := _nested(each)) is not None), None)
