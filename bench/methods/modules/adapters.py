"""Adapters: small bottlenecks behind the parts of a layer, and where each kind puts them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from bench.models.stack import AdapterSite, Rows

if TYPE_CHECKING:
    from bench.models.stack.flop_counting import Products

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {"gelu": nn.GELU, "relu": nn.ReLU, "swish": nn.SiLU}


class Bottleneck(nn.Module):
    """`up(f(down(h)))`, to be added to h. Begins as zero, so that training starts from the backbone."""

    def __init__(self, hidden: int, bottleneck: int, activation: str):
        super().__init__()
        self.down = nn.Linear(hidden, bottleneck)
        self.activation = ACTIVATIONS[activation]()
        self.up = nn.Linear(bottleneck, hidden)
        for map_, spread in ((self.down, 0.02), (self.up, 0.0)):
            nn.init.normal_(map_.weight, std=spread)
            nn.init.zeros_(map_.bias)

    def forward(self, states: Tensor) -> Tensor:
        """[..., H] -> [..., H]."""
        return self.up(self.activation(self.down(states)))

    def count(self, products: Products, rows: Rows) -> Rows:
        return products.chain([self.down, self.activation, self.up], rows)


def behind_both(site: AdapterSite, make: Callable[[], nn.Module]) -> None:
    """Houlsby's places: behind attention and behind feed-forward, each before it is added to the residual."""
    for module in (site.attention, site.feed_forward):
        _behind(module, make(), _add)


def behind_feed_forward(site: AdapterSite, make: Callable[[], nn.Module]) -> None:
    """Houlsby's second place alone."""
    _behind(site.feed_forward, make(), _add)


def behind_layer(site: AdapterSite, make: Callable[[], nn.Module]) -> None:
    """Pfeiffer's place: reads the layer's output, adds to the sum that the layer's last norm normalises.

    With the residual x, the feed-forward's output h and z = norm(h + x) it gives norm(h + x + A(z)), as SeqBnConfig of
    the adapters library. Where norms come before, z is h + x and the layer gives z + A(z).
    """
    if site.norm is None:
        _behind(site.block, make(), _add)
    else:
        _behind(site.norm, make(), lambda norm, inputs, output: norm.forward(inputs[0] + norm.adapter(output)))


def _add(module: Any, inputs: Any, output: Tensor) -> Tensor:
    return output + module.adapter(output)


def _behind(module: nn.Module, adapter: nn.Module, edit: Callable[[Any, Any, Tensor], Tensor]) -> None:
    """Makes `adapter` a child of `module`, whose output becomes `edit(module, inputs, output)`.

    The hook holds neither of them, so that a copy of the model is a copy.
    """

    def hook(module: nn.Module, inputs: Any, output: Any) -> Any:
        if isinstance(output, torch.Tensor):
            return edit(module, inputs, output)
        return edit(module, inputs, output[0]), *output[1:]

    module.add_module("adapter", adapter)
    module.register_forward_hook(hook)
