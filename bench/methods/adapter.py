"""Houlsby and Pfeiffer adapters, and AdapterDrop (arXiv 1902.00751, 2005.00247, 2010.11918)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from bench.methods.base import Method, Recipe
from bench.models.backbones import Backbone

if TYPE_CHECKING:
    from bench.methods.modules.attachment import Attachment
    from bench.models.stack import Stack
    from bench.models.vocabulary import Vocabulary


class Adapter(Method):
    """Places, activations and reduction are those of the adapters library (DoubleSeqBnConfig, SeqBnConfig).

    The library starts the up-projection at N(0, 0.02^2), we at zero. `drop` leaves the lowest layers without, as
    AdapterDrop. The recipe is that of google-research/adapter-bert, which trains the layer norms, too; the library
    advises 1e-4 for Pfeiffer's.
    """

    source = "Houlsby et al. 2019, Pfeiffer et al. 2021, Rücklé et al. 2021"
    kind: Literal["adapter"] = "adapter"
    placement: Literal["houlsby", "pfeiffer"] = "houlsby"
    reduction: int = Field(default=16, ge=1)  # H / bottleneck
    activation: Literal["gelu", "relu", "swish"] | None = None  # None: swish for houlsby, relu for pfeiffer
    drop: int = Field(default=0, ge=0)  # layers without, from the lowest
    recipe: Recipe = Recipe(learning_rate=3e-4, warmup=0.1, weight_decay=0.01, epsilon=1e-6)

    def check(self, backbone: Backbone) -> str | None:
        if self.drop < backbone.layers:
            return None
        return f"drop is {self.drop}, but the backbone has {backbone.layers} layers"

    def attach(self, stack: Stack, vocabulary: Vocabulary) -> Attachment:
        from bench.methods.modules.adapters import Bottleneck, behind_both, behind_layer
        from bench.methods.modules.attachment import Attachment

        houlsby = self.placement == "houlsby"
        activation = self.activation or ("swish" if houlsby else "relu")
        bottleneck = max(1, stack.hidden // self.reduction)
        put = behind_both if houlsby else behind_layer
        for site in stack.sites[self.drop :]:
            put(site, lambda: Bottleneck(stack.hidden, bottleneck, activation))
        return Attachment(stack.first_trainable_depth())
