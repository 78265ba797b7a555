"""FreeLB: its adversarial settings on RoBERTa-large, by task (zhuchen03/FreeLB, fairseq-RoBERTa/launch)."""

from __future__ import annotations

from bench.matrix.protocols.base import Protocol, Rule

ATTACK = {"regularizer": ("attack",), "space": ("embeddings",)}


def _freelb(task: str, step_size: float, steps: int, initial: float, radius: float) -> Rule:
    return Rule(
        source=f"fairseq-RoBERTa/launch, {task}",
        core=True,
        when={"backbone": ("roberta-large",), "task": (task,), **ATTACK},
        values={
            "regularizer.step_size": step_size,
            "regularizer.steps": steps,
            "regularizer.initial": initial,
            "regularizer.radius": radius,
        },
    )


FREELB = Protocol(
    name="freelb",
    title="FreeLB on GLUE",
    source="Zhu et al. 2020, arXiv 1909.11764; its code, zhuchen03/FreeLB",
    rules=(
        Rule(
            source="run_glue_freelb.py:263-275, 308-316 (the mean over the points of the ascent), 282-290 (l2)",
            when=ATTACK,
            values={
                "regularizer.algorithm": "freelb",
                "regularizer.norm": "l2",
                "regularizer.depth": "words",
                "regularizer.clean_weight": 0.0,
            },
        ),
        _freelb("mnli", 1e-1, 2, 1e-1, 3e-1),
        _freelb("mrpc", 4e-2, 3, 6.4e-1, 4e-1),
        _freelb("qnli", 7.5e-2, 2, 1.5e-1, 1.5e-1),  # its fp32 settings
        _freelb("qqp", 2e-1, 2, 3.2e-1, 7e-1),
        _freelb("sst2", 1e-1, 2, 1.0, 6e-1),
    ),
    differs=(
        "Its settings for RTE are commented out in the script and are left open here, as are CoLA's and STS-B's.",
        "Learning rates, steps and batch sizes are the matrix's own.",
        "Every step of the ascent is masked to the user's words.",
    ),
)
