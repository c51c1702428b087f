"""The nodes and edges of a NIR graph, added one by one, each with the size of what it gives.

NIR (the Neuromorphic Intermediate Representation, Pedersen et al. 2024) is a graph of nodes with known equations; where
several edges end in one node it reads their sum. Its leaky neuron is ``tau dv/dt = (v_leak - v) + r I``, spikes where
``v > v_threshold`` and then is at ``v_reset``. A forward step of length dt is our neuron where ``dt / tau = 1 - decay``
and ``r = tau / dt``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import nir
import numpy as np
from numpy.typing import NDArray

# The step of the libraries that read NIR (snnTorch, SpikingJelly), in seconds; a student has steps, and no seconds.
DT = 1e-4
Array = NDArray[Any]
Stream = tuple[str, ...]
Size = tuple[int, ...]


def leaky_constants(decay: float) -> tuple[float, float]:
    """(tau in seconds, r) for a ``decay`` below 1: ``1 - DT / tau`` is the decay and ``DT / tau * r`` is 1, as nearly
    as doubles allow: within 2^-53, and in every bit for 0.25, 0.5 and more.
    """
    tau = _nearest(DT / (1 - decay), lambda tau: abs((1 - DT / tau) - decay))
    return tau, _nearest(tau / DT, lambda r: abs(DT / tau * r - 1))


def _nearest(start: float, error: Any) -> float:
    """The double within a few of ``start`` whose error is least, the first of equals."""
    around = [start]
    for direction in (-math.inf, math.inf):
        value = start
        for _ in range(8):
            value = math.nextafter(value, direction)
            around.append(value)
    return min(around, key=error)


class Drawing:
    """A graph as it grows. A stream is what several nodes give together: their sum."""

    def __init__(
        self, decay: float, v_threshold: float, dtype: np.dtype[Any], decays: Mapping[str, float] | None = None
    ) -> None:
        """``decays`` are those of layers of neurons that learnt their own, by name."""
        self.decay, self.v_threshold, self.dtype = decay, v_threshold, dtype
        self.decays = decays or {}
        self.nodes: dict[str, Any] = {}
        self.edges: list[tuple[str, str]] = []
        self.sizes: dict[str, Size] = {}

    def add(self, name: str, node: Any, stream: Stream, size: Size) -> Stream:
        """One more node behind a stream; ``size`` is that of what it gives: maps (C, H, W), or vectors (F,)."""
        self.nodes[name], self.sizes[name] = node, size
        self.edges += [(source, name) for source in stream]
        return (name,)

    def convolve(
        self, name: str, weight: Array, bias: Array | None, stream: Stream, stride: int, padding: int, groups: int = 1
    ) -> Stream:
        """A convolution of ``weight`` (out, in / groups, k, k)."""
        _, *sides = self.sizes[stream[0]]
        after = [(side + 2 * padding - weight.shape[2]) // stride + 1 for side in sides]
        values = np.zeros(len(weight)) if bias is None else bias
        node = nir.Conv2d(
            input_shape=(sides[0], sides[1]),
            weight=np.ascontiguousarray(weight, dtype=self.dtype),
            stride=stride,
            padding=padding,
            dilation=1,
            groups=groups,
            bias=np.ascontiguousarray(values, dtype=self.dtype),
        )
        return self.add(name, node, stream, (len(weight), after[0], after[1]))

    def fire(
        self, name: str, stream: Stream, *, v_threshold: float | None = None, decay: float | None = None
    ) -> Stream:
        """Neurons over the sum of a stream, the network's own unless constants are given."""
        size = self.sizes[stream[0]]
        decay = self.decays.get(name, self.decay) if decay is None else decay
        threshold = np.full(size, self.v_threshold if v_threshold is None else v_threshold)
        zeros = np.zeros(size)
        if decay == 1:
            node: Any = nir.IF(r=np.full(size, 1 / DT), v_threshold=threshold, v_reset=zeros)
        else:
            tau, r = leaky_constants(decay)
            node = nir.LIF(
                tau=np.full(size, tau), r=np.full(size, r), v_leak=zeros, v_threshold=threshold, v_reset=zeros
            )
        return self.add(name, node, stream, size)

    def largest_spike(self, name: str, stream: Stream, kernel: int, stride: int, padding: int) -> Stream:
        """The max-pool of spikes: 1 where any in the window fired, which is where their sum is above a half.

        A neuron that got nothing keeps 0, and one that got a spike fires and is reset: so it never remembers, whatever
        its decay. The windows are summed by a full kernel, for one of many groups is not read everywhere.
        """
        channels = self.sizes[stream[0]][0]
        weight = np.zeros((channels, channels, kernel, kernel))
        weight[np.arange(channels), np.arange(channels)] = 1
        summed = self.convolve(f"{name}.window", weight, None, stream, stride, padding)
        return self.fire(name, summed, v_threshold=0.5)

    def linear(self, name: str, weight: Array, bias: Array, stream: Stream) -> Stream:
        """An affine layer over vectors."""
        node = nir.Affine(
            weight=np.ascontiguousarray(weight, dtype=self.dtype), bias=np.ascontiguousarray(bias, dtype=self.dtype)
        )
        return self.add(name, node, stream, (len(weight),))

    def average(self, name: str, stream: Stream, kernel: tuple[int, int]) -> Stream:
        """The mean of every ``kernel`` pixels."""
        channels, *sides = self.sizes[stream[0]]
        after = [side // by for side, by in zip(sides, kernel, strict=True)]
        node = nir.AvgPool2d(kernel_size=np.array(kernel), stride=np.array(kernel), padding=np.array((0, 0)))
        return self.add(name, node, stream, (channels, after[0], after[1]))

    def flatten(self, name: str, stream: Stream) -> Stream:
        """Maps as vectors, channel after channel. Counted from the end, the axes are the same with a batch before
        them, for readers that count it and for those that do not."""
        size = self.sizes[stream[0]]
        node = nir.Flatten(input_type={"input": np.array(size)}, start_dim=-3, end_dim=-1)
        return self.add(name, node, stream, (math.prod(size),))

    def graph(self, metadata: dict[str, Any]) -> nir.NIRGraph:
        """The whole of it, with every node's type checked against its neighbours'."""
        return nir.NIRGraph(dict(self.nodes), list(self.edges), metadata=metadata)
