"""P-tuning v2 on SuperGLUE (THUDM/P-tuning-v2) and P-tuning on FewGLUE (THUDM/P-tuning, PT-Fewshot)."""

from __future__ import annotations

from bench.matrix.protocols.base import Protocol, Rule


def _v2(backbone: str, task: str, batch: int, rate: float, length: int, epochs: int, projection: bool = False) -> Rule:
    return Rule(
        source=f"run_script/run_{task}_{backbone.partition('-')[0]}.sh, README `Implemented Results`",
        core=True,
        when={"backbone": (backbone,), "task": (task,), "method": ("prefix_tuning",)},
        values={
            "batch_size": batch,
            "epochs": epochs,
            "recipe.learning_rate": rate,
            "method.length": length,
            "method.projection": projection,
        },
    )


PTUNING_V2 = Protocol(
    name="ptuning_v2",
    title="P-tuning v2 on SuperGLUE",
    source="Liu et al. 2022, arXiv 2110.07602; its code, THUDM/P-tuning-v2",
    seeds=(11, 44),
    rules=(
        Rule(
            source="run_script/*.sh; training/trainer_base.py:48-60 (the best epoch is kept)",
            when={"method": ("prefix_tuning",)},
            values={
                "regime": "full",
                "head": {"kind": "linear"},
                "regularizer": {"kind": "none"},
                "max_length": 128,
                "evaluate_every": "epoch",
                "select": "best_dev",
            },
        ),
        _v2("bert-large-cased", "boolq", 32, 5e-3, 40, 100),
        _v2("bert-large-cased", "copa", 16, 1e-2, 16, 80),
        _v2("bert-large-cased", "rte", 32, 1e-2, 20, 60),
        _v2("bert-large-cased", "wic", 16, 1e-4, 20, 80, projection=True),
        _v2("bert-large-cased", "wsc", 16, 5e-3, 20, 80),
        _v2("roberta-large", "boolq", 32, 7e-3, 8, 100),
        _v2("roberta-large", "copa", 16, 9e-3, 8, 120),
        _v2("roberta-large", "rte", 32, 5e-3, 128, 100),
        _v2("roberta-large", "wic", 32, 1e-2, 8, 50),
        _v2("roberta-large", "wsc", 16, 1e-2, 8, 10),
    ),
    differs=(
        "There the best epoch is chosen on the set that is reported; here dev comes out of train, and test is apart.",
        "The head reads the first token, not BERT's pooler, and COPA and WSC are texts with two answers.",
        "The text's positions begin at 0, not behind the prefix.",
        "An epoch has as many steps as there, but all batches are full: the last one of an epoch takes from the next.",
    ),
)


def _fewglue(
    task: str, steps: int, length: int, batch: int, rate: float = 1e-4, tokens: int = 1, warmup: int = 0
) -> Rule:
    values = {
        "steps": steps,
        "max_length": length,
        "batch_size": batch,
        "method.length": tokens,
        "recipe.learning_rate": rate,
        "recipe.warmup": warmup / steps,
    }
    source = f"PT-Fewshot/scripts/{task}_pt_few_shot.sh; --pattern_ids, pet/wrapper.py:89"
    return Rule(source=source, core=True, when={"task": (task,), "method": ("p_tuning",)}, values=values)


FEWGLUE = Protocol(
    name="fewglue",
    title="P-tuning on FewGLUE",
    source="Liu et al. 2021, arXiv 2103.10385; its code, THUDM/P-tuning, PT-Fewshot",
    rules=(
        Rule(
            source="FewGLUE_32dev; pet/wrapper.py:384-446: every 20 steps on dev32, the end after 10 without a gain",
            values={
                "regime": "fewglue",
                "evaluate_every": 20,
                "patience": 10,
                "select": "best_dev",
                "regularizer": {"kind": "none"},
            },
        ),
        Rule(
            source="pet/wrapper.py:109-117 (BiLSTM and MLP), 312 and 315 (two AdamW), scripts/*.sh",
            when={"method": ("p_tuning",)},
            values={
                "method.encoder": "lstm",
                "method.tune_backbone": True,
                "recipe.backbone_learning_rate": 1e-5,
                "recipe.weight_decay": 0.1,
                "recipe.clip": 1.0,
                "recipe.schedule": "linear",
            },
        ),
        # 2 per GPU on the 8 GPUs that the scripts list; 16 on one for COPA and WSC
        _fewglue("boolq", 250, 256, 16),
        _fewglue("cb", 250, 256, 16, rate=1e-5),
        _fewglue("copa", 3500, 96, 16, rate=1e-5),
        _fewglue("multirc", 250, 512, 16),
        _fewglue("rte", 3500, 256, 16, warmup=150),
        _fewglue("wic", 3500, 256, 16, rate=1e-5),
        _fewglue("wsc", 3500, 128, 16, tokens=2),
    ),
    differs=(
        "The prompt stands in front of the text, not inside the template.",
        "COPA and WSC are texts with two answers, not several masks for a phrase.",
        "One clipping norm is taken over backbone and prompt together.",
    ),
)
