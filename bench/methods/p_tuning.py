"""P-tuning: a prompt reparameterised by a small network (Liu et al. 2021, arXiv 2103.10385)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from bench.methods.base import Attachment, Method, Recipe
from bench.methods.prompt_encoders import Insert
from bench.models.stack import EMBEDDINGS, Flow, Rows, Stack, Stream
from bench.models.vocabulary import Vocabulary

if TYPE_CHECKING:
    from bench.models.stack.flop_counting import Products


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
        source = Reparameterised(self.length, stack.hidden, recurrent=self.encoder == "lstm")
        stack.requires_grad_(self.tune_backbone)
        return Attachment(EMBEDDINGS if self.tune_backbone else 0, nn.ModuleList([Insert(source, 0)]))


class Reparameterised(nn.Module):
    """P free vectors (N(0, 1)) through `W2 relu(W1 v + b1) + b2`; recurrent: behind a BiLSTM over the P of them."""

    def __init__(self, length: int, hidden: int, recurrent: bool):
        super().__init__()
        self.vectors = nn.Embedding(length, hidden)
        self.lstm = nn.LSTM(hidden, hidden, num_layers=2, bidirectional=True, batch_first=True) if recurrent else None
        self.mlp = nn.Sequential(nn.Linear(2 * hidden if recurrent else hidden, hidden), nn.ReLU())
        self.mlp.append(nn.Linear(hidden, hidden))

    def forward(self, stream: Stream) -> Tensor:
        """[B, P, H], the same for every example."""
        device = stream.states.device
        vectors = self.vectors(torch.arange(self.vectors.num_embeddings, device=device))[None]
        if self.lstm is not None:
            vectors, _ = self.lstm(vectors)
        return self.mlp(vectors).expand(len(stream.states), -1, -1)

    def count(self, products: Products, flow: Flow) -> Rows:
        rows = products.apply(self.vectors, Rows(self.vectors.num_embeddings, self.vectors.embedding_dim))
        if self.lstm is not None:
            rows = recurrent(products, self.lstm, rows)
        rows = products.apply(self.mlp, rows)
        return rows._replace(length=flow.examples * rows.length)


def recurrent(products: Products, lstm: nn.LSTM, rows: Rows) -> Rows:
    """Both directions of every layer: four gates from what is below and, behind the first step, from the one before."""
    tally, gates = products.tally, 4 * lstm.hidden_size
    trains = tally.trains(*lstm.parameters())
    for _ in range(lstm.num_layers):
        tracked = False
        for _ in range(2):
            tracked = tally.product(rows.length * rows.features * gates, rows.tracked, trains)
            tally.product(lstm.hidden_size * gates, trains)
            tally.product((rows.length - 1) * lstm.hidden_size * gates, tracked, trains)
        rows = Rows(rows.length, 2 * lstm.hidden_size, tracked)
    return rows
