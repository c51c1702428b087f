"""What settings beside a foreign network's weights tell of it that no tensor does: arguments, configurations, names."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from idsnn_cli.errors import FamilyError
from idsnn_cli.text import excerpt

# Keys of settings, by their last name.
_ACTIVATION = re.compile(r"(hidden_)?act(ivation)?s?(_?(fn|func|function|layer|type|name))?|non_?lin(earity)?")
_EPS = re.compile(r"(bn|norm|batch_?norm)_eps(ilon)?")
_NETWORK = re.compile(r"(arch(itecture)?|model|net|network|backbone|encoder)(_?(name|type|arch))?")
# Names of activations, less what is no letter or digit; all but ReLU, which networks here have.
_OTHERS = frozenset(
    (
        *(
            "silu",
            "swish",
            "quickgelu",
            "gelu",
            "newgelu",
            "leakyrelu",
            "lrelu",
            "elu",
            "selu",
            "celu",
            "prelu",
            "rrelu",
        ),
        *("relu6", "crelu", "mish", "hardswish", "hswish", "tanh", "hardtanh", "sigmoid", "hardsigmoid", "softplus"),
        *("softsign", "glu"),
    )
)
# What the name of an architecture tells, as of resnetblur50 and resnetaa50d.
_NAMED = re.compile(r"blur|anti_?alias|silu|swish|gelu|leaky|prelu|mish|[_-]aa([_-]|$)|(net|next)aa\d")
_USUAL_EPS = 1e-5
_ANOTHER = "It is no network that is read here. If the setting is about something else, give the state dict alone."


def other_activation(name: str) -> bool:
    """Whether ``name``, as a setting or a function has it, is that of an activation that is no ReLU."""
    return re.sub(r"[^a-z0-9]", "", name.lower().rpartition(".")[2]) in _OTHERS


def check_settings(others: Mapping[str, Any], where: str) -> None:
    """Raise :class:`FamilyError` where a setting in ``others``, by dotted names, tells that it is another network."""
    for name, words in _told(others):
        raise FamilyError(f"{where}: its setting '{excerpt(name)}' says {words}.", _ANOTHER)


def _told(others: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """(name, words) of each setting that tells of another network."""
    for name, value in others.items():
        leaf = name.rpartition(".")[2].lower()
        if isinstance(value, str) and len(value) < 200:
            named = _NETWORK.fullmatch(leaf) and _NAMED.search(value.lower())
            if named or (_ACTIVATION.fullmatch(leaf) and other_activation(value)):
                yield name, f"'{excerpt(value)}', and networks here have ReLU and no pools in their blocks"
        elif _EPS.fullmatch(leaf) and isinstance(value, float) and value != _USUAL_EPS:
            yield name, f"{value:g}, and BatchNorm here has eps 1e-5"
        elif leaf == "replace_stride_with_dilation" and isinstance(value, list | tuple) and any(value):
            yield name, f"{excerpt(str(value))}, and networks here are not dilated"
        elif leaf == "output_stride" and value in (8, 16):
            yield name, f"{value}, and networks here are not dilated"
        elif leaf == "downsample_in_first_stage" and value is True:
            yield name, "true, and the first stage does not stride here"


def told_stride(others: Mapping[str, Any]) -> Literal["1x1", "3x3"] | None:
    """In which convolution a bottleneck strides, as transformers' settings tell; None where none does."""
    for name, value in others.items():
        if name.rpartition(".")[2] == "downsample_in_bottleneck" and isinstance(value, bool):
            return "1x1" if value else "3x3"
    return None
