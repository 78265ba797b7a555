"""How much data a cell trains on."""

from __future__ import annotations

from collections.abc import Mapping

from bench.core.settings import Problem, Settings, shown


class Regime(Settings):
    """How much training data: everything, a total in the original class ratio, so many of each class, or FewGLUE's.

    `total` draws 1,000 further training examples as dev, as LPT does (fewer where fewer are left);
    `per_class` k draws k more of each class, as LM-BFF does; `full` takes the task's own dev split, else
    1,000 of the training examples, at most a tenth; `fewglue` takes the 32 examples and the 32 of dev that were
    published (Schick and Schütze 2021; Liu et al. 2021), whatever the seed. Test is never touched.
    """

    total: int | None = None
    per_class: int | None = None
    fewglue: bool = False

    @property
    def label(self) -> str:
        if self.fewglue:
            return "fewglue"
        if self.total is not None:
            return f"total-{self.total}"
        return "full" if self.per_class is None else f"{self.per_class}-per-class"


NAMED = {"full": Regime(), "fewglue": Regime(fewglue=True)}


def parse_regime(value: object, path: str, problems: list[Problem]) -> Regime | None:
    if isinstance(value, str) and value in NAMED:
        return NAMED[value]
    if isinstance(value, Mapping) and len(value) == 1:
        (key, count), *_ = value.items()
        if key in ("total", "per_class") and type(count) is int and count > 0:
            return Regime.model_validate({key: count})
    expected = f"expected {', '.join(NAMED)}, {{total: n}} or {{per_class: n}} with n a positive whole number"
    problems.append(Problem(path, f"found {shown(value)}, {expected}"))
    return None
