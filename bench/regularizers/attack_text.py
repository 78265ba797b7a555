"""PTP-ADV in text space: words of the user's replaced so that the loss rises, once an epoch.

Which attack the paper used is not public. `gradient` is ours and needs nothing but the backbone: from one gradient of
the loss with respect to the word embeddings, the tokens with the largest are replaced by that neighbour in the
backbone's own word embeddings which raises the loss most, to first order. `a2t` is TextAttack's recipe.
"""

from __future__ import annotations

import importlib.util
from typing import ClassVar, Literal

from pydantic import Field, model_validator

from bench.models.backbones import Backbone
from bench.regularizers.base import TwoViews

INSTALL = "pip install 'promptzero[attack]' && pip install --no-deps textattack"


class TextAttack(TwoViews):
    """Up to `rate` of an example's tokens, or one, are replaced by others of a cosine of at least `cosine`.

    Rate, cosine and number of neighbours are A2T's (Yoo and Qi 2021, arXiv 2109.00544), which counts words.
    """

    refreshes: ClassVar[bool] = True
    kind: Literal["attack"] = "attack"
    space: Literal["text"] = "text"
    attacker: Literal["gradient", "a2t"] = "gradient"
    rate: float = Field(default=0.1, gt=0, le=1)
    cosine: float = Field(default=0.8, ge=-1, le=1)
    neighbours: int = Field(default=20, ge=1)

    @model_validator(mode="after")
    def a2t_is_as_it_is(self) -> TextAttack:
        own = {name: type(self).model_fields[name].get_default() for name in ("rate", "cosine", "neighbours")}
        if self.attacker == "a2t" and any(getattr(self, name) != value for name, value in own.items()):
            raise ValueError(f"with a2t its own {', '.join(f'{name} {value}' for name, value in own.items())}")
        return self

    @property
    def probed(self) -> TextAttack:
        """On a random model no word is near another."""
        return self.model_copy(update={"attacker": "gradient", "cosine": -1.0})

    @property
    def uneven(self) -> bool:
        return self.attacker == "a2t"

    def check(self, backbone: Backbone) -> str | None:
        return missing() if self.attacker == "a2t" else None


def missing() -> str | None:
    """What to do where TextAttack is not installed."""
    found = importlib.util.find_spec("textattack") is not None
    return None if found else f"attacker: a2t needs TextAttack, which is not installed: {INSTALL}"
