"""A file's tensors as the modules they belong to, told by shapes and order, and by the last words of names if usual."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

Shape = tuple[int, ...]
Kind = Literal["convolution", "norm", "linear", "gate", "other"]

_NORM = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
# The words of other libraries for the same.
_LEAVES = {name: name for name in _NORM} | {
    "gamma": "weight",
    "beta": "bias",
    "mean": "running_mean",
    "var": "running_var",
    "moving_mean": "running_mean",
    "moving_var": "running_var",
    "moving_variance": "running_var",
    "kernel": "weight",
}


@dataclass(frozen=True, slots=True)
class Part:
    """One module. ``shape`` is a kernel's, (channels,) of a norm, (out, in) of a linear layer, and of a gate (inner
    size, channels), or (kernel,) where it is of neighbours (ECA). ``tensors`` leads from canonical last names to keys.
    """

    kind: Kind
    shape: Shape
    tensors: Mapping[str, str]

    @property
    def keys(self) -> list[str]:
        return list(self.tensors.values())


def parts_of(shapes: Mapping[str, Shape]) -> tuple[list[Part], bool]:
    """The modules in the order of the file, and whether names told which tensor of a norm is which."""
    leaves = {key: _LEAVES.get(key.rpartition(".")[2]) for key in shapes if "." in key}
    named = len(leaves) == len(shapes) and all(leaves.values())
    return _gated(_by_name(shapes) if named else _by_order(shapes)), named


def modules_of(shapes: Mapping[str, Shape]) -> tuple[dict[str, Part], list[str]]:
    """The modules whose tensors have usual last names, by their own names, and all other keys."""
    usual = {key: shape for key, shape in shapes.items() if key.rpartition(".")[2] in _LEAVES}
    modules: dict[str, dict[str, str]] = {}
    for key in usual:
        module, _, leaf = key.rpartition(".")
        modules.setdefault(module, {})[_LEAVES[leaf]] = key
    found = {module: _part(tensors, shapes) for module, tensors in modules.items()}
    return found, [key for key in shapes if key not in usual]


def _by_name(shapes: Mapping[str, Shape]) -> list[Part]:
    modules: dict[str, dict[str, str]] = {}
    for key in shapes:
        module, _, leaf = key.rpartition(".")
        modules.setdefault(module, {})[_LEAVES[leaf]] = key
    return [_part(tensors, shapes) for tensors in modules.values()]


def _by_order(shapes: Mapping[str, Shape]) -> list[Part]:
    keys = list(shapes)
    found: list[Part] = []
    at = 0
    while at < len(keys):
        run = _run(keys[at:], shapes)
        if run == 0:
            found.append(_part({"weight": keys[at]}, shapes))
            at += 1
            continue
        length = shapes[keys[at]][0]
        # One vector more than norms take is a bias of what stands before.
        before = found[-1] if found else None
        if run % 4 == 1 and before and before.kind in ("convolution", "linear") and before.shape[0] == length:
            found[-1] = _part({**before.tensors, "bias": keys[at]}, shapes)
            at, run = at + 1, run - 1
        for _ in range(run // 4):
            count = 5 if at + 4 < len(keys) and shapes[keys[at + 4]] == () else 4
            found.append(_part(dict(zip(_NORM, keys[at : at + count], strict=False)), shapes))
            at += count
        for key in keys[at : at + run % 4]:
            found.append(Part("other", shapes[key], {"weight": key}))
            at += 1
    return found


def _run(keys: list[str], shapes: Mapping[str, Shape]) -> int:
    """How many vectors of one length stand at the beginning of ``keys``."""
    count = 0
    for key in keys:
        if len(shapes[key]) != 1 or shapes[key] != shapes[keys[0]]:
            break
        count += 1
    return count


def _part(tensors: Mapping[str, str], shapes: Mapping[str, Shape]) -> Part:
    found = {leaf: shapes[key] for leaf, key in tensors.items()}
    weight = found.get("weight", ())
    kind: Kind = "other"
    if len(weight) == 1 and {"running_mean", "running_var"} <= found.keys():
        vectors = [shape for leaf, shape in found.items() if leaf != "num_batches_tracked"]
        kind = "norm" if len(vectors) == 4 and set(vectors) == {weight} else "other"
    elif len(weight) in (2, 4) and found.keys() <= {"weight", "bias"} and found.get("bias", weight[:1]) == weight[:1]:
        kind = "convolution" if len(weight) == 4 else "linear"
    elif len(weight) == 3 and weight[:2] == (1, 1) and len(found) == 1:
        return Part("gate", weight[2:], tensors)
    return Part(kind, weight, tensors)


def _gated(parts: list[Part]) -> list[Part]:
    """``parts`` with each pair that leads from all channels to few and back as one gate (squeeze-and-excitation)."""
    found: list[Part] = []
    for part in parts:
        before = found[-1] if found else None
        if before is not None and _is_gate(before, part):
            tensors = {f"reduce.{leaf}": key for leaf, key in before.tensors.items()}
            tensors |= {f"expand.{leaf}": key for leaf, key in part.tensors.items()}
            found[-1] = Part("gate", before.shape[:2], tensors)
        else:
            found.append(part)
    last = next((i for i in reversed(range(len(found))) if found[i].kind in ("convolution", "linear")), None)
    if last is not None and found[last].shape[2:] == (1, 1) and "bias" in found[last].tensors:
        found[last] = replace(found[last], kind="linear", shape=found[last].shape[:2])
    return found


def _is_gate(first: Part, second: Part) -> bool:
    if first.kind != second.kind or first.kind not in ("convolution", "linear"):
        return False
    if first.shape[:2] != second.shape[1::-1] or first.shape[0] > first.shape[1]:
        return False
    if first.kind == "linear":
        return True
    return "bias" in first.tensors and "bias" in second.tensors and first.shape[2:] == second.shape[2:] == (1, 1)
