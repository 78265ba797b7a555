"""What a method is: settings that attach something to a frozen Stack and say from where up a backward is needed.

Settings are read without torch: what is attached is imported when it is attached.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from bench.core.settings import Settings, departures, short
from bench.models.backbones import Backbone

if TYPE_CHECKING:
    from bench.methods.modules.attachment import Attachment
    from bench.models.stack import Stack
    from bench.models.vocabulary import Vocabulary

Beta = Annotated[float, Field(ge=0, lt=1)]


class Recipe(Settings):
    """How a method is trained: AdamW, the fields below. A matrix may override any of them."""

    learning_rate: float = Field(gt=0)
    # of what the backbone had before the method came, where that trains, its own LM head included; None: the same
    backbone_learning_rate: float | None = Field(default=None, gt=0)
    schedule: Literal["linear", "constant"] = "linear"  # after the warm-up, to 0 or not at all
    warmup: float = Field(default=0.06, ge=0, le=1)  # share of the steps
    weight_decay: float = Field(default=0.0, ge=0)
    betas: tuple[Beta, Beta] = (0.9, 0.999)
    epsilon: float = Field(default=1e-8, gt=0)
    clip: float = Field(default=1.0, ge=0)  # norm of all trainable gradients together; 0: none

    def rate(self, of_backbone: bool) -> float:
        """The learning rate of the backbone's own parameters, or of what the method and the head added."""
        return (self.backbone_learning_rate if of_backbone else None) or self.learning_rate


class Method(Settings):
    """A member of the method axis. Subclasses add a literal `kind`, their settings, and `attach`.

    The stack given to `attach` is frozen. Whatever requires a gradient afterwards, in the stack or in the edits,
    is trained, together with the head.
    """

    source: ClassVar[str]  # where it comes from
    heads: ClassVar[tuple[str, ...]] = ("answer_words", "linear")  # those it trains with
    trains_head_only: ClassVar[bool] = False
    kind: str  # subclasses narrow it to their own name
    recipe: Recipe

    @classmethod
    def own_recipe(cls) -> Recipe:
        return cls.model_fields["recipe"].get_default()

    def with_own_recipe(self) -> Method:
        """What the recipe does not matter to."""
        return self.model_copy(update={"recipe": self.own_recipe()})

    @abstractmethod
    def attach(self, stack: Stack, vocabulary: Vocabulary) -> Attachment: ...

    def check(self, backbone: Backbone) -> str | None:
        """What is wrong with these settings on this backbone."""
        return None

    @property
    def label(self) -> str:
        """The kind and every setting that is not the default, without the recipe."""
        return " ".join([self.kind, *departures(self, {"kind", "recipe"})])

    @property
    def recipe_label(self) -> str:
        """Where the recipe departs from the method's own."""
        own = self.own_recipe()
        return " ".join(f"{name}={short(value)}" for name, value in self.recipe if value != getattr(own, name))
