"""PTP-RN in embedding space: random noise on the text."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from bench.regularizers.base import EmbeddingPerturbation


class Noise(EmbeddingPerturbation):
    """Gaussian, sigma * N(0, 1), or as in R3F uniform, sigma * U(-1, 1).

    The paper's sigma and law are not public: the defaults are ours. `sigma_relative` is in standard deviations of the
    word embeddings' entries, so that one number transfers between backbones.
    """

    kind: Literal["noise"] = "noise"
    law: Literal["gaussian", "uniform"] = "gaussian"
    sigma: float | None = Field(default=None, gt=0)  # where neither is given 0.01
    sigma_relative: float | None = Field(default=None, gt=0)

    @model_validator(mode="before")
    @classmethod
    def has_one_sigma(cls, given: dict[str, Any]) -> dict[str, Any]:
        sigmas = [given.get(name) for name in ("sigma", "sigma_relative")]
        if None not in sigmas:
            raise ValueError("one of sigma and sigma_relative")
        return given if any(sigmas) else {**given, "sigma": 0.01}
