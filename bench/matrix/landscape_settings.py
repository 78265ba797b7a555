"""What a cell says about its loss surfaces."""

from pydantic import Field, field_validator

from bench.core.settings import Settings, departures


class Landscape(Settings):
    """Radius, grid and examples are ours: the paper names the axes of its figure only."""

    radius: float = Field(default=1.0, gt=0)  # of each example's shift, in L2 of its word embeddings
    grid: int = Field(default=21, ge=3)  # points along each direction; 41 for figures
    examples: int = Field(default=64, ge=1)  # so many of dev, drawn by the cell's seed: the same for all methods
    weights: bool = False  # measure the slice through weight space, too
    weights_radius: float = Field(default=1.0, gt=0)  # in norms of the trained filters

    @field_validator("grid")
    @classmethod
    def has_a_middle(cls, grid: int) -> int:
        if grid % 2 == 0:
            raise ValueError("an odd number, so that the trained point is in the middle")
        return grid

    @property
    def label(self) -> str:
        return " ".join(["landscape", *departures(self, set())])
