"""PromptZero: a DeepSpeed benchmark suite for prompt tuning and its rivals."""

__version__ = "0.1.0"
