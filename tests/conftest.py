"""Tensors this small are slower on several threads, most of all where other tests have the cores."""

from __future__ import annotations

import torch

torch.set_num_threads(1)
