"""LPT: its few-shot script on RoBERTa-large, its full-data script on GPT-2 large (xyltt/LPT @634c7b2)."""

from __future__ import annotations

from bench.matrix.protocols.base import Protocol, Rule

OPTIMIZER = {
    "recipe.weight_decay": 0.1,
    "recipe.betas": [0.9, 0.999],
    "recipe.epsilon": 1e-8,
    "recipe.clip": 1.0,
    "recipe.schedule": "linear",
    "recipe.warmup": 0.06,
}
LATE = {"method.generator": "naive", "method.length": 5, "method.bottleneck": 128}

LPT = Protocol(
    name="lpt",
    title="Late prompt tuning",
    source="Liu et al. 2022, arXiv 2210.11292; its code, xyltt/LPT @634c7b2",
    seeds=(100, 13, 21, 42, 87),  # of the data, generate_low_resource_data.py; the run scripts have 42
    rules=(
        Rule(
            source="encoder-only/run_roberta.py:189 (dropout below), 242-256 (best dev kept, no early stopping); "
            "modeling_roberta.py:642-648 (the LM head, over the vocabulary)",
            values={
                "select": "best_dev",
                "patience": None,
                "lower_dropout": True,
                "precision": "fp32",
                "head": {"kind": "answer_words", "loss": "vocabulary"},
                "regularizer": {"kind": "none"},
            },
        ),
        Rule(
            source="encoder-only/run_roberta.sh; the optimizer is run_roberta.py:96-114, 218",
            when={"form": ("masked",)},
            values={
                "regime": {"total": 100},
                "steps": 1000,
                "epochs": None,
                "evaluate_every": 100,
                "batch_size": 32,
                "max_length": 512,
            },
        ),
        Rule(
            source="encoder-only/run_roberta.sh",
            core=True,
            when={"form": ("masked",), "method": ("late_prompt",)},
            values={**OPTIMIZER, **LATE, "recipe.learning_rate": 1e-3},
        ),
        Rule(
            source="encoder-only/run_roberta.sh: add_prompt_layer 12",
            when={"backbone": ("roberta-large",), "method": ("late_prompt",)},
            values={"method.depth": 12},
        ),
        Rule(
            source="decoder-only/run_gpt2.sh",
            when={"form": ("causal",)},
            values={
                "regime": "full",
                "epochs": 10,
                "evaluate_every": "epoch",
                "batch_size": 32,
                "max_length": 256,
            },
        ),
        Rule(
            source="decoder-only/run_gpt2.sh",
            core=True,
            when={"form": ("causal",), "method": ("late_prompt",)},
            values={**OPTIMIZER, **LATE, "recipe.learning_rate": 5e-4},
        ),
        Rule(
            source="decoder-only/run_gpt2.sh: add_prompt_layer 18",
            when={"backbone": ("gpt2-large",), "method": ("late_prompt",)},
            values={"method.depth": 18},
        ),
    ),
    differs=(
        "The settings of its baselines are not public: methods other than late_prompt keep their own recipe.",
        "GPT-2 is padded as a batch needs, not to 256, and scored at the answer word, not over `word .` and its end.",
        "Batches hold examples of like length.",
    ),
)
