"""The methods. Listing a class here is all it takes to add one."""

from bench.methods.base import Attachment, Method, Recipe
from bench.methods.full import Full
from bench.methods.late_prompt import LatePrompt
from bench.methods.peft import Peft
from bench.methods.prompt_tuning import PromptTuning

__all__ = ["METHODS", "Attachment", "Method", "Recipe"]

METHODS: dict[str, type[Method]] = {
    method.model_fields["kind"].get_default(): method for method in (Full, PromptTuning, LatePrompt, Peft)
}
