"""What must hold between the forms: an error against float64 of at most twice the reference's own."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from bench.kernels import ascent, noise, swap
from bench.kernels.dispatch import Kernels

Shape = tuple[int, int, int]  # B, T, H

MASKS: dict[str, Callable[[Tensor], Tensor]] = {  # from random numbers [B, T]
    "none": lambda random: random < 0,
    "all": lambda random: random < 1,
    "random": lambda random: random < 0.8,
    "an example out": lambda random: (random < 0.8) & (torch.arange(len(random))[:, None] > 0),
}
BALLS: tuple[tuple[ascent.Norm, float], ...] = (("l2", 0), ("l2", 0.3), ("l2", 10), ("linf", 0.1))
SLACK = 1e-5  # where the reference is exact by luck
VOCABULARY, NEIGHBOURS, BOUND = 50, 6, 0.0  # about half of random cosines are allowed


@dataclass(frozen=True)
class Check:
    """An error and the most it may be."""

    form: str
    operation: str
    shape: Shape
    dtype: torch.dtype
    error: float  # NaN is wrong as well
    bound: float

    @property
    def right(self) -> bool:
        return self.error <= self.bound

    def __str__(self) -> str:
        size = "x".join(map(str, self.shape))
        return f"{self.form} {self.operation} {size} {self.dtype}: off by {self.error:g}, expected <= {self.bound:g}"


@dataclass(frozen=True)
class Case:
    """What the operations are given. Text and embeddings are N(0, 1); delta has length 0.2 and is not masked yet."""

    text: Tensor
    delta: Tensor
    gradient: Tensor
    mask: Tensor
    keys: Tensor
    ids: Tensor
    embeddings: Tensor
    table: swap.Neighbours

    @staticmethod
    def make(shape: Shape, dtype: torch.dtype, device: torch.device, mask: str = "random") -> Case:
        generator = torch.Generator().manual_seed(1)

        def random(*size: int) -> Tensor:
            return torch.randn(size, generator=generator).to(device, dtype)

        eligible = MASKS[mask](torch.rand(shape[:2], generator=generator))
        ids = torch.randint(0, VOCABULARY, shape[:2], generator=generator)
        embeddings = random(VOCABULARY, shape[2])
        known = torch.arange(0, VOCABULARY, 2, device=device)
        allowed = torch.arange(VOCABULARY, device=device) % 5 > 0
        return Case(
            text=random(*shape),
            delta=random(*shape) * (0.2 / (shape[1] * shape[2]) ** 0.5),
            gradient=random(*shape),
            mask=eligible.to(device),
            keys=torch.randint(-(2**62), 2**62, shape[:1], generator=generator).to(device),
            ids=ids.to(device),
            embeddings=embeddings,
            table=swap.nearest(embeddings, known, NEIGHBOURS, allowed),
        )


def check(
    kernels: Kernels, shape: Shape, dtype: torch.dtype, device: torch.device, mask: str = "random"
) -> list[Check]:
    """Every operation of one form."""
    case = Case.make(shape, dtype, device, mask)
    found = [*check_noise(kernels, case), *check_ascent(kernels, case), *check_swap(kernels, case)]
    return [Check(kernels.form, name, shape, dtype, error, bound) for name, error, bound in found]


Finding = tuple[str, float, float]  # operation, error, bound


def check_noise(kernels: Kernels, case: Case) -> list[Finding]:
    """The same bits."""
    found: list[Finding] = []
    for law in ("gaussian", "uniform"):
        one, other = (form(case.text, case.mask, 0.1, case.keys, law) for form in (kernels.noise, noise.reference))
        found.append((f"noise {law}", 0.0 if torch.equal(one, other) else off(one, other) or math.inf, 0.0))
    return found


def check_ascent(kernels: Kernels, case: Case) -> list[Finding]:
    """In and out of the ball, and on its surface."""
    found: list[Finding] = []
    for norm, radius in BALLS:

        def step(
            form: ascent.Ascent,
            dtype: torch.dtype | None = None,
            with_text: bool = True,
            norm: ascent.Norm = norm,
            radius: float = radius,
        ) -> list[Tensor]:
            delta, gradient, text = (one.to(dtype or one.dtype) for one in (case.delta, case.gradient, case.text))
            given = form(delta, gradient, case.mask, 0.3, radius, norm, text if with_text else None)
            return [one for one in given if one is not None]

        exact, plain, fast = step(ascent.reference, torch.float64), step(ascent.reference), step(kernels.ascent)
        for name, f, p, e in zip(("delta", "text"), fast, plain, exact, strict=True):
            found.append((f"ascent {norm} {radius:g} {name}", off(f, e), 2 * off(p, e) + SLACK))
        if radius == 10:
            (alone,) = step(kernels.ascent, with_text=False)
            found.append((f"ascent {norm} {radius:g} without text", 0.0 if torch.equal(alone, fast[0]) else 1.0, 0.0))
    return found


def check_swap(kernels: Kernels, case: Case) -> list[Finding]:
    """The gain, and that what was chosen has it: equals within rounding may be exchanged."""
    where = (case.ids, case.mask)
    given = (case.gradient, case.embeddings)
    table = (case.table, BOUND)
    _, exact = swap.reference(given[0].double(), *where, given[1].double(), *table)
    _, plain = swap.reference(given[0], *where, given[1], *table)
    token, gain = kernels.swap(given[0], *where, given[1], *table)
    words = given[1].double()
    own = ((words[token] - words[case.ids]) * given[0].double()).sum(-1)
    own = own.masked_fill(token == case.ids, -math.inf)
    bound = 2 * off(plain, exact) + SLACK
    return [("swap gain", off(gain, exact), bound), ("swap token", off(own, exact), 2 * bound)]


def off(found: Tensor, exact: Tensor) -> float:
    """The largest difference, where both are not -inf; NaN if there is one."""
    difference = (found.double() - exact.double()).abs()
    return torch.where(found.double() == exact.double(), 0.0, difference).max().item()
