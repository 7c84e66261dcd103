"""The fuzz targets for a moment each; `python -m tests.fuzz` has more time."""

import random

import pytest

from tests.fuzz.__main__ import by_mutation
from tests.fuzz.mutate import mutated
from tests.fuzz.targets import TARGETS, Target

SEED = 20261127
"""The same bytes in every run of the suite; `python -m tests.fuzz` tries new ones."""
MOST = 500


@pytest.mark.parametrize("name", TARGETS)
def test_target(name):
    assert by_mutation(name, TARGETS[name], 20, SEED, MOST) == MOST


def test_a_fault_is_found_and_told(capfd):
    """The fuzz can fail: a reader that cannot bear a certain byte."""

    def fragile(data: bytes) -> None:
        if b"\xff" in data:
            raise IndexError("oh")

    with pytest.raises(IndexError):
        by_mutation("fragile", Target(fragile, (b"abcd",)), 20, 1)
    assert "fragile, seed 1: b'" in capfd.readouterr().err


def test_the_same_dice_give_the_same_bytes():
    seeds = (b"abc", b"defghi")
    first, second = random.Random(5), random.Random(5)
    assert [mutated(first, seeds) for _ in range(50)] == [mutated(second, seeds) for _ in range(50)]
