"""A NIR graph run in numpy, from the graph alone: what its nodes' equations say, step by step."""

from __future__ import annotations

from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from typing import Any

import nir
import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from idsnn_cli.errors import CheckpointError
from idsnn_cli.exchange.drawing import DT, Array

NEURONS = ("LIF", "IF")


def sources_of(graph: nir.NIRGraph) -> dict[str, list[str]]:
    """Of every node those whose sum it reads, in the order in which they can run. Raises :class:`CheckpointError`."""
    sources: dict[str, list[str]] = {name: [] for name in graph.nodes}
    for source, target in graph.edges:
        if source not in sources or target not in sources:
            raise CheckpointError(
                f"the graph has an edge from '{source}' to '{target}', and one of the two is no node of it",
                "Write the graph again: this one is damaged.",
            )
        sources[target].append(source)
    try:
        order = list(TopologicalSorter(sources).static_order())
    except CycleError as error:
        raise CheckpointError(
            f"the graph runs in a circle ({' -> '.join(map(str, error.args[1]))}), which no ResNet does",
            "Give a feed-forward network.",
        ) from None
    return {name: sources[name] for name in order}


class Interpreter:
    """One network of a graph, with the membranes of its neurons. Arithmetic is in ``dtype``, whatever the file's."""

    def __init__(self, graph: nir.NIRGraph, dtype: Any = np.float64, dt: float = DT) -> None:
        """``dt`` is the length of a step in the graph's seconds. Raises :class:`CheckpointError` for a node that is not
        known here, or a graph that cannot run."""
        self.nodes, self.dtype, self.dt = graph.nodes, dtype, dt
        self.sources = sources_of(graph)
        kinds = {name: type(node).__name__ for name, node in self.nodes.items()}
        for name, kind in kinds.items():
            if not hasattr(self, f"_{kind.lower()}"):
                raise CheckpointError(
                    f"the node '{name}' is a {kind}, which is not run here",
                    "Known are Input, Output, Conv2d, AvgPool2d, Flatten, Affine, Linear, LIF and IF.",
                )
        inputs, outputs = ([name for name, kind in kinds.items() if kind == end] for end in ("Input", "Output"))
        if len(inputs) != 1 or len(outputs) != 1:
            raise CheckpointError(
                f"the graph has {len(inputs)} inputs and {len(outputs)} outputs", "Give a graph of one of each."
            )
        self.output, self.kinds = outputs[0], kinds
        self.membranes: dict[str, Array] = {}

    def reset(self) -> None:
        """Let every neuron start again at 0."""
        self.membranes = {}

    def step(self, images: Array) -> tuple[Array, dict[str, Array]]:
        """One time step of ``images`` (N, ...): the output (N, ...), and the spikes of every node of neurons."""
        given: dict[str, Array] = {}
        left = dict.fromkeys(self.nodes, 0)
        for sources in self.sources.values():
            for source in sources:
                left[source] += 1
        spikes = {}
        for name, sources in self.sources.items():
            kind = self.kinds[name]
            if kind == "Input":
                given[name] = images.astype(self.dtype)
                continue
            read = self._sum(name, sources, given)
            given[name] = getattr(self, f"_{kind.lower()}")(name, read)
            if kind in NEURONS:
                spikes[name] = given[name]
            for source in sources:
                left[source] -= 1
                if not left[source] and source != self.output:
                    del given[source]
        return given[self.output], spikes

    def run(self, images: Array, timesteps: int) -> Iterator[tuple[Array, dict[str, Array]]]:
        """:meth:`step` of the same images, ``timesteps`` times, from 0."""
        self.reset()
        for _ in range(timesteps):
            yield self.step(images)

    def _sum(self, name: str, sources: list[str], given: dict[str, Array]) -> Array:
        if not sources:
            raise CheckpointError(f"the node '{name}' reads nothing", "Write the graph again: an edge is missing.")
        total = given[sources[0]]
        for source in sources[1:]:
            total = total + given[source]
        return total

    def _values(self, name: str, key: str) -> Array:
        return np.asarray(getattr(self.nodes[name], key)).astype(self.dtype)

    def _input(self, name: str, x: Array) -> Array:
        return x

    def _output(self, name: str, x: Array) -> Array:
        return x

    def _conv2d(self, name: str, x: Array) -> Array:
        node, weight = self.nodes[name], self._values(name, "weight")
        if isinstance(node.padding, str) or _pair(node.dilation) != (1, 1):
            raise CheckpointError(f"the convolution '{name}' is dilated, or padded by a word", "Give a plain one.")
        rows, columns = _pair(node.padding)
        padded = np.pad(x, ((0, 0), (0, 0), (rows, rows), (columns, columns)))
        steps = _pair(node.stride)
        windows = sliding_window_view(padded, weight.shape[2:], (2, 3))[:, :, :: steps[0], :: steps[1]]
        groups = int(node.groups)
        parts = [
            np.tensordot(each, kernel, ((1, 4, 5), (1, 2, 3)))
            for each, kernel in zip(np.split(windows, groups, 1), np.split(weight, groups), strict=True)
        ]
        summed: Array = np.concatenate(parts, -1).transpose(0, 3, 1, 2)
        return summed + self._values(name, "bias")[:, None, None]

    def _avgpool2d(self, name: str, x: Array) -> Array:
        node = self.nodes[name]
        if _pair(node.padding) != (0, 0):
            raise CheckpointError(f"the mean '{name}' is padded", "Give one without padding.")
        steps = _pair(node.stride)
        windows = sliding_window_view(x, _pair(node.kernel_size), (2, 3))[:, :, :: steps[0], :: steps[1]]
        mean: Array = windows.mean((4, 5))
        return mean

    def _flatten(self, name: str, x: Array) -> Array:
        return x.reshape(len(x), -1)

    def _affine(self, name: str, x: Array) -> Array:
        product: Array = x @ self._values(name, "weight").T
        return product + self._values(name, "bias")

    def _linear(self, name: str, x: Array) -> Array:
        product: Array = x @ self._values(name, "weight").T
        return product

    def _lif(self, name: str, x: Array) -> Array:
        share = self.dt / self._values(name, "tau")
        v = self.membranes.get(name, np.zeros_like(x))
        v = (1 - share) * v + share * self._values(name, "v_leak") + share * self._values(name, "r") * x
        return self._spike(name, v)

    def _if(self, name: str, x: Array) -> Array:
        v = self.membranes.get(name, np.zeros_like(x))
        return self._spike(name, v + self.dt * self._values(name, "r") * x)

    def _spike(self, name: str, v: Array) -> Array:
        fired = v > self._values(name, "v_threshold")
        self.membranes[name] = np.where(fired, self._values(name, "v_reset"), v)
        return fired.astype(self.dtype)


def _pair(value: Any) -> tuple[int, int]:
    rows, columns = np.broadcast_to(np.asarray(value), 2)
    return int(rows), int(columns)
