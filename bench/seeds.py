"""All randomness derives from (cell seed, purpose): separate streams, the same on 1 or 512 ranks."""

from __future__ import annotations

import hashlib


def stream_seed(seed: int, purpose: str) -> int:
    """A 63-bit seed for `purpose` (sample, init, order, noise) of a cell."""
    digest = hashlib.blake2b(f"{seed}/{purpose}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def shuffled(items: list[int], seed: int, purpose: str) -> list[int]:
    """`items` in an order that depends on nothing but the arguments: no library's generator, of any version."""
    key = f"{seed}/{purpose}/"

    def rank(item: int) -> bytes:
        return hashlib.blake2b(f"{key}{item}".encode(), digest_size=8).digest()

    return sorted(items, key=rank)
