"""The methods. Listing a class here is all it takes to add one."""

from bench.methods.adapter import Adapter
from bench.methods.base import Method, Recipe
from bench.methods.bitfit import BitFit
from bench.methods.compacter import Compacter
from bench.methods.deep_prompts import DeepPrompts
from bench.methods.full import Full
from bench.methods.idpg import Idpg
from bench.methods.late_prompt import LatePrompt
from bench.methods.linear_probe import LinearProbe
from bench.methods.p_tuning import PTuning
from bench.methods.peft import Peft
from bench.methods.prefix_tuning import PrefixTuning
from bench.methods.prompt_tuning import PromptTuning

__all__ = ["METHODS", "Method", "Recipe"]

METHODS: dict[str, type[Method]] = {
    method.model_fields["kind"].get_default(): method
    for method in (
        Full,
        LinearProbe,
        BitFit,
        PromptTuning,
        PTuning,
        DeepPrompts,
        PrefixTuning,
        LatePrompt,
        Idpg,
        Adapter,
        Compacter,
        Peft,
    )
}
