"""Convolutions with a bias before BatchNorm, which PyTorch's layers have unless they are told not to.

BatchNorm takes the mean away again, so that a bias b only moves it: (w x + b - mean) is (w x - (mean - b)). The
network is the one without biases whose running means are less by them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from idsnn_cli.errors import FamilyError
from idsnn_cli.families.anyone import recognise
from idsnn_cli.families.completing import Alike
from idsnn_cli.families.reading import Reading, Recognised
from idsnn_cli.families.words import shown

Shape = tuple[int, ...]


def recognise_biased(
    shapes: Mapping[str, Shape], reading: Reading, alike: Alike, refusal: FamilyError
) -> tuple[Recognised, dict[str, str]]:
    """The network of ``shapes`` without its convolutions' biases, and the bias of each running mean that has one.

    ``refusal`` is why the whole file was not recognised: it is raised where leaving biases out does not help. Raises
    :class:`FamilyError` for a bias that no BatchNorm takes away again.
    """
    for biases in _biases(shapes):
        try:
            found = recognise({key: shape for key, shape in shapes.items() if key not in biases}, reading, alike)
        except FamilyError:
            continue
        return _folded(found, biases)
    if not any("running_var" in key or "moving_variance" in key for key in shapes) and any(_biases(shapes)):
        raise FamilyError(
            "its BatchNorms are folded into its convolutions, or it never had any: these have biases, and there are no "
            "running statistics.",
            "Give the network as it was trained, before BatchNorm was folded for inference, or one with BatchNorm.",
        )
    raise refusal


def _biases(shapes: Mapping[str, Shape]) -> Iterator[set[str]]:
    """Biases of convolutions: of kernels larger than 1x1 alone, for gates are 1x1 with a bias, then of all."""
    found = {}
    for key, shape in shapes.items():
        kernel = shapes.get(f"{key.removesuffix('.bias')}.weight", ())
        if key.endswith(".bias") and len(kernel) == 4 and shape == kernel[:1]:
            found[key] = kernel
    larger = {key for key, kernel in found.items() if kernel[2:] != (1, 1)}
    if larger:
        yield larger
    if len(found) > len(larger):
        yield set(found)


def _folded(found: Recognised, biases: set[str]) -> tuple[Recognised, dict[str, str]]:
    folded: dict[str, str] = {}
    for conv in found.architecture.convolutions():
        bias = f"{found.names[f'{conv.name}.weight'].removesuffix('.weight')}.bias"
        if bias not in biases:
            continue
        if conv.norm is None or conv.norm_first:
            raise FamilyError(
                f"{shown(bias)} is the bias of a convolution that no BatchNorm follows: it has no place here.",
                "Give a network whose convolutions there have none (bias=False).",
            )
        folded[found.names[f"{conv.norm}.running_mean"]] = bias
    unused = dict.fromkeys(biases - set(folded.values()), "the bias of a convolution that is not the network's")
    words = f"the biases of {len(folded)} convolutions are folded into the running means of the BatchNorms behind them"
    notes = (*found.notes, words) if folded else found.notes
    return replace(found, dropped={**found.dropped, **unused}, notes=notes), folded
