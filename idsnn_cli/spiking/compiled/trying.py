"""Every loop once, so that one that numba cannot compile, or read back from its cache, is known before a training."""

from __future__ import annotations

import numpy as np

from idsnn_cli.spiking.compiled import kernels, quantise_kernels


def try_all() -> None:
    """Call each loop on arrays of the kinds that it will get, with no run to go through; raises what numba raises."""
    maps, flat, marks = np.zeros((1, 1), np.uint16), np.zeros(1, np.uint16), np.zeros((1, 1), np.uint8)
    tile, one = np.zeros(1, np.float32), np.float32(1)
    kernels.moments(flat, tile, 0, 0, np.zeros((1, 2, 1)))
    kernels.forward(maps, maps, tile, tile, tile, maps, marks, marks, 0, 0, (one,) * 6)
    kernels.backward(maps, maps, marks, marks, tile, maps, maps, np.zeros((1, 2, 1)), 0, 0, (one,) * 3)
    kernels.combine(flat, flat, tile, tile, tile, flat, 0, 0)
    kernels.combine_onto(flat, tile, tile, tile, flat, 0, 0)
    kernels.products(flat, flat, np.zeros((1, 2, 1)), 1, 0, 0)
    tiles = tile, tile, tile
    quantise_kernels.quantise(flat, flat, *tiles, tile, one, flat, 0, 0)
    quantise_kernels.quantise_back(flat, flat, flat, *tiles, one, tile, flat, flat, np.zeros((1, 3, 1)), 0, 0)
