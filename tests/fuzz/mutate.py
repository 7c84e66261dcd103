"""Mutation of byte strings with a seeded dice: flips, cuts, repeats, words, lengths at the edges, splices."""

from __future__ import annotations

import random
import struct
from collections.abc import Sequence

EDGES = (0, 1, 3, 4, 5, 7, 8, 127, 128, 255, 256, 10000, 10001, 65535, 65536, 2**30, 2**31 - 1, 2**31, 2**32 - 1)


def mutated(dice: random.Random, seeds: Sequence[bytes], words: Sequence[bytes] = ()) -> bytes:
    """One of the seeds, changed in one to six places."""
    data = bytearray(dice.choice(seeds))
    for _ in range(dice.randint(1, 6)):
        _change(dice, data, seeds, words)
    return bytes(data)


def _change(dice: random.Random, data: bytearray, seeds: Sequence[bytes], words: Sequence[bytes]) -> None:
    at = dice.randint(0, len(data))
    end = min(len(data), at + dice.choice((1, 2, 4, 16)))
    what = dice.randrange(8)
    if what == 0 and at < len(data):
        data[at] = dice.randrange(256)
    elif what == 1 and at < len(data):
        data[at] ^= 1 << dice.randrange(8)
    elif what == 2:
        del data[at:end]
    elif what == 3:
        data[at:at] = data[at:end] * dice.choice((1, 2, 50))
    elif what == 4:
        data[at : at + 4] = struct.pack("!I", dice.choice(EDGES))
    elif what == 5:
        data[at:at] = dice.choice(words) if words else dice.randbytes(dice.randint(1, 8))
    elif what == 6:
        other = dice.choice(seeds)
        data[at:] = other[dice.randint(0, len(other)) :]
    else:
        data[at:end] = dice.randbytes(end - at)
