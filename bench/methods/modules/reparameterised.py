"""P-tuning's prompt encoder: free vectors through an MLP, alone or behind a BiLSTM."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from bench.models.stack import Flow, Rows, Stream

if TYPE_CHECKING:
    from bench.models.stack.flop_counting import Products


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
