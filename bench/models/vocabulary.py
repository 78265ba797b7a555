"""What methods and perturbations may know of a tokenizer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

FREQUENT = 5000


@dataclass(frozen=True)
class Vocabulary:
    classes: Sequence[Sequence[int]]  # the tokens of each class's answer word
    ordinary: Sequence[int]  # every id that is no special token
    pad: int
    mask: int | None = None  # the mask token, where there is one

    @property
    def frequent(self) -> Sequence[int]:
        """The first ordinary ids: in most tokenizers the most frequent."""
        return self.ordinary[:FREQUENT]
