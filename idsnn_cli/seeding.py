"""One seed in, as many independent ones out as there are names for them."""

from __future__ import annotations

import hashlib


def derive_seed(seed: int, *names: str | int) -> int:
    """A 63-bit seed for what ``names`` say, the same on every machine and in every process.

    Draws are named by what they are for (command, purpose, epoch, batch) instead of by how many came before, so a
    step that runs alone, inside ``run`` or after a kill draws the same numbers, and no generator state is saved.
    """
    text = "\0".join([str(seed), *map(str, names)])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1
