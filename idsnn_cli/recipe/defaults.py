"""What is said in a recipe, and what is left as it is: keys at their defaults say nothing."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from idsnn_cli.recipe.fields import model_of
from idsnn_cli.recipe.schema import Recipe


def without_defaults(plain: Mapping[str, Any], model: type[BaseModel] = Recipe) -> dict[str, Any]:
    """``plain``, sections of a recipe as JSON has them, without the keys whose values are their defaults.

    A key that came to be after somebody wrote ``plain`` is then no difference, as long as nobody gives it. What is no
    key of the recipe stays.
    """
    found: dict[str, Any] = {}
    for key, value in plain.items():
        field = model.model_fields.get(key)
        inner = None if field is None else model_of(field.annotation)
        if inner is not None and isinstance(value, Mapping):
            said = without_defaults(value, inner)
            found |= {key: said} if said else {}
        elif field is None or field.is_required() or value != _as_json(field.get_default(call_default_factory=True)):
            found[key] = value
    return found


def _as_json(value: Any) -> Any:
    return json.loads(json.dumps(value, default=str))
