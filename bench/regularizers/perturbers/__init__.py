"""Regularizers on a model: what they perturb, and which passes a step makes. They need torch; settings do not."""

from collections.abc import Callable
from typing import Any

from bench.regularizers.attack import Attack
from bench.regularizers.attack_text import TextAttack
from bench.regularizers.base import Regularizer
from bench.regularizers.noise import Noise
from bench.regularizers.noise_text import TextNoise
from bench.regularizers.none import NoRegularizer
from bench.regularizers.perturbers.a2t import A2t
from bench.regularizers.perturbers.attack import FreeLb, Pgd
from bench.regularizers.perturbers.attack_text import GradientSwaps
from bench.regularizers.perturbers.base import Perturber, Run
from bench.regularizers.perturbers.noise import Noisy
from bench.regularizers.perturbers.noise_text import Editing
from bench.regularizers.perturbers.none import Clean
from bench.regularizers.perturbers.rewriting import Rewriting

__all__ = ["PERTURBERS", "Perturber", "Rewriting", "Run", "perturber_of"]

PERTURBERS: dict[type[Regularizer], Callable[[Any, Run], Perturber]] = {
    NoRegularizer: lambda settings, run: Clean(run),
    Noise: Noisy,
    TextNoise: Editing,
    Attack: lambda settings, run: {"pgd": Pgd, "freelb": FreeLb}[settings.algorithm](settings, run),
    TextAttack: lambda settings, run: {"gradient": GradientSwaps, "a2t": A2t}[settings.attacker](settings, run),
}


def perturber_of(settings: Regularizer, run: Run) -> Perturber:
    """`settings` at work on the model of `run`."""
    return PERTURBERS[type(settings)](settings, run)
