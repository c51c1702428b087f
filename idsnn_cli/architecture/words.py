"""The words that a description is made of: every choice and every name that a recipe or ``--arch`` may give."""

from __future__ import annotations

from typing import Literal

Kind = Literal["ann", "spiking"]
Stem = Literal["3x3", "7x7"]
Shortcut = Literal["projection", "pad"]
BottleneckStride = Literal["3x3", "1x1", "average"]
SpikingBlock = Literal["spiking", "sew"]
Join = Literal["add", "and", "iand"]
Coding = Literal["direct", "poisson"]
Reset = Literal["hard", "soft"]
Start = Literal["zero", "half"]
Activation = Literal["relu", "qcfs"]
# Learnt for each channel, or folded into the layers behind the spikes.
Amplitude = Literal["one", "channel", "folded"]
