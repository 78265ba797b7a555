"""All randomness derives from (seed, purpose): separate streams, the same on 1 or 512 ranks.

Which of them follow the seed of a cell is its choice, so that instability can be attributed.
"""

from __future__ import annotations

import hashlib
from typing import Annotated, Literal, get_args

from pydantic import AfterValidator, BeforeValidator

# sample: which examples; init: the initial values of all that is trained, and weights that no checkpoint gives;
# order: the order of batches, dropout, and the noise of perturbations
Randomness = Literal["sample", "init", "order"]
VARY: tuple[Randomness, ...] = get_args(Randomness)


def _several(given: object) -> object:
    """One name stands for itself; JSON and YAML have lists."""
    return (given,) if isinstance(given, str) else tuple(given) if isinstance(given, list) else given


def _in_order(given: tuple[Randomness, ...]) -> tuple[Randomness, ...]:
    return tuple(which for which in VARY if which in given)


Vary = Annotated[tuple[Randomness, ...], BeforeValidator(_several), AfterValidator(_in_order)]


def seed_of(which: Randomness, seed: int, vary: tuple[Randomness, ...]) -> int:
    """The seed of `which` in a cell of this `seed`: 0 where that does not vary with it."""
    return seed if which in vary else 0


def stream_seed(seed: int, purpose: str) -> int:
    """A 63-bit seed for `purpose`: init, order, dropout 0, noise 3 7."""
    digest = hashlib.blake2b(f"{seed}/{purpose}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def shuffled(items: list[int], seed: int, purpose: str) -> list[int]:
    """`items` in an order that depends on nothing but the arguments: no library's generator, of any version."""
    key = f"{seed}/{purpose}/"

    def rank(item: int) -> bytes:
        return hashlib.blake2b(f"{key}{item}".encode(), digest_size=8).digest()

    return sorted(items, key=rank)
