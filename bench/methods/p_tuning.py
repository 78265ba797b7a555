"""P-tuning: a prompt reparameterised by a small network (Liu et al. 2021, arXiv 2103.10385)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from bench.methods.base import Method, Recipe
from bench.models.backbones import EMBEDDINGS

if TYPE_CHECKING:
    from bench.methods.modules.attachment import Attachment
    from bench.models.stack import Stack
    from bench.models.vocabulary import Vocabulary


class PTuning(Method):
    """The network of THUDM/P-tuning (PT-Fewshot, pet/wrapper.py:109-117): an MLP, alone or behind a BiLSTM.

    There the vectors are as wide as ALBERT's word embeddings and stand inside the template; here they are as wide as
    the backbone's layers and stand in front. There the backbone trains too, at 1e-5 with a decay of 0.1
    (pet/wrapper.py:312): `tune_backbone` with `backbone_learning_rate` and `weight_decay`, which here the network has
    as well. The recipe is that of the prompt encoder in most of its few-shot scripts.
    """

    source = "Liu et al. 2021, arXiv 2103.10385"
    kind: Literal["p_tuning"] = "p_tuning"
    length: int = Field(default=20, ge=1)
    encoder: Literal["lstm", "mlp"] = "lstm"
    tune_backbone: bool = False
    recipe: Recipe = Recipe(learning_rate=1e-4, warmup=0)

    def attach(self, stack: Stack, vocabulary: Vocabulary) -> Attachment:
        from bench.methods.modules.attachment import Attachment
        from bench.methods.modules.prompt_encoders import Insert
        from bench.methods.modules.reparameterised import Reparameterised

        source = Reparameterised(self.length, stack.hidden, recurrent=self.encoder == "lstm")
        stack.requires_grad_(self.tune_backbone)
        return Attachment(EMBEDDINGS if self.tune_backbone else 0, [Insert(source, 0)])
