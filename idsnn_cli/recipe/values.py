"""What the sections of a recipe are made of: ranges, names, sources, and their common base."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, PlainValidator

from idsnn_cli.errors import UsageError, did_you_mean
from idsnn_cli.sources.names import Published, Source, forms, parse_source

Positive = Annotated[int, Field(ge=1, le=2**31 - 1)]
Fraction = Annotated[float, Field(gt=0, lt=1)]
Rate = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]


def one_of(value: str, names: tuple[str, ...]) -> str:
    lowered = value.lower()
    if lowered not in names:
        raise ValueError(f"give one of {', '.join(names)}.{did_you_mean(lowered, names)}")
    return lowered


def _source(value: object) -> Source:
    if isinstance(value, Path | Published):
        return value
    if not isinstance(value, str):
        raise ValueError(f"give a path, or {forms()}")
    try:
        return parse_source(value)
    except UsageError as error:
        raise ValueError(error.message) from None


# A file, or a published network; text in a recipe.
NetworkSource = Annotated[Path | Published, PlainValidator(_source), PlainSerializer(str, return_type=str)]


class Section(BaseModel):
    """Base of every section: unknown keys are errors, and numbers are finite.

    Recipes are validated in pydantic's strict JSON mode, where a number is never made from a string or a boolean.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)
