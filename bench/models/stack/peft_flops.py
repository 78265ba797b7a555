"""The products of peft's layers, by the part of peft they are of. They keep the module they change as `base_layer`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol

from torch import nn

from bench.models.stack.operation_counter import OperationCounter, Rows, shape


class Products(Protocol):
    """What counts the products of a stack; see flop_counting."""

    tally: OperationCounter

    def apply(self, module: nn.Module, rows: Rows) -> Rows: ...
    def chain(self, modules: Iterable[nn.Module], rows: Rows) -> Rows: ...


class Uncounted(Exception):
    """No formula is known for a module."""


def is_tuner(module: nn.Module) -> bool:
    return hasattr(module, "base_layer") or hasattr(module, "original_module")  # the latter: what is trained whole


def count_tuner(products: Products, module: nn.Module, rows: Rows) -> Rows:
    """Uncounted where there is no formula."""
    rule = TUNERS.get(type(module).__module__)
    if rule is None or not _is_linear(module):
        raise Uncounted(f"{type(module).__module__}.{type(module).__name__}")
    (name,) = getattr(module, "active_adapters")  # noqa: B009 -- a layer of peft's, of no type here
    return rule(products, module, name, rows)


def _is_linear(module: Any) -> bool:
    return type(module).__name__ == "Linear"


def lora(products: Products, module: Any, name: str, rows: Rows) -> Rows:
    """LoRA, and DoRA, which makes B A in every pass: of that no gradient goes back."""
    made = products.apply(module.base_layer, rows)
    down, up = module.lora_A[name], module.lora_B[name]
    magnitudes = getattr(module, "lora_magnitude_vector", {})
    if name in magnitudes:
        with products.tally.unrecorded():
            products.chain([down, up], Rows(rows.features, rows.features))
        if module.training and not isinstance(module.lora_dropout[name], nn.Identity):
            made |= products.apply(module.base_layer, rows)  # once more, on what dropout left
        made |= products.apply(magnitudes[name], made)
    elif name in module.lora_variant:
        raise Uncounted(f"{type(module.lora_variant[name]).__name__}")
    return made | products.chain([down, up], rows)


def ia3(products: Products, module: Any, name: str, rows: Rows) -> Rows:
    trains = products.tally.recording and products.tally.trains(module.ia3_l[name])
    if module.is_feedforward:
        return products.apply(module.base_layer, rows._replace(tracked=rows.tracked or trains))
    made = products.apply(module.base_layer, rows)
    return made._replace(tracked=made.tracked or trains)


def vera(products: Products, module: Any, name: str, rows: Rows) -> Rows:
    """Two frozen matrices, a trained vector behind each."""
    tally, made = products.tally, products.apply(module.base_layer, rows)
    rank = shape(module.vera_lambda_d[name])[0]
    narrow = tally.product(rows.length * rows.features * rank, rows.tracked)
    narrow = narrow or (tally.recording and tally.trains(module.vera_lambda_d[name]))
    wide = tally.product(rows.length * rank * made.features, narrow)
    return made._replace(tracked=made.tracked or wide or (tally.recording and tally.trains(module.vera_lambda_b[name])))


def oft(products: Products, module: Any, name: str, rows: Rows) -> Rows:
    """The input turned block by block; the rotations are a series in a skew matrix (Cayley-Neumann)."""
    tally, rotation = products.tally, module.oft_R[name]
    if not rotation.use_cayley_neumann:
        raise Uncounted("OFT by solving equations")
    trains = tally.recording and tally.trains(rotation.weight)
    for _ in range(rotation.num_cayley_neumann_terms - 2):
        tally.product(shape(rotation.weight)[0] * rotation.block_size**3, trains, trains)
    turned = tally.product(rows.length * rows.features * rotation.block_size, rows.tracked, trains)
    return products.apply(module.base_layer, rows._replace(tracked=turned))


Rule = Callable[["Products", Any, str, Rows], Rows]
TUNERS: dict[str, Rule] = {
    "peft.tuners.lora.layer": lora,
    "peft.tuners.ia3.layer": ia3,
    "peft.tuners.vera.layer": vera,
    "peft.tuners.oft.layer": oft,
}
