"""Every member of the axes: what is listed here is tested by every test that takes a table."""

# family -> model_type of its config; both "opt" are walked by one stack
MODEL_TYPES = {
    "bert": "bert",
    "roberta": "roberta",
    "albert": "albert",
    "deberta": "deberta-v2",
    "gpt2": "gpt2",
    "opt": "opt",
    "opt-350m": "opt",
    "llama": "llama",
    "mistral": "mistral",
    "qwen2": "qwen2",
    "qwen3": "qwen3",
    "gemma": "gemma",
    "t5": "t5",
    "t5-v1.1": "t5",
}
# kind of method -> what it changes in the backbone; a kind that is not here is the only one of its sort
MECHANISMS = {
    "full": "weights",
    "bitfit": "weights",
    "prompt_tuning": "prompt",
    "p_tuning": "prompt",
    "late_prompt": "prompt",
    "idpg": "prompt",
    "adapter": "modules",
    "compacter": "modules",
}
# these begin as the backbone
NEUTRAL_TABLE = [
    {"kind": "adapter", "reduction": 8},
    {"kind": "adapter", "reduction": 8, "placement": "pfeiffer"},
    {"kind": "adapter", "reduction": 8, "drop": 2},
    {"kind": "compacter", "reduction": 4},
    {"kind": "peft", "config": {"peft_type": "LORA", "r": 2}},
    {"kind": "peft", "config": {"peft_type": "LORA", "r": 2, "use_dora": True}},
    {"kind": "peft", "config": {"peft_type": "IA3"}},
]
TWO_RATES = {
    "kind": "p_tuning",
    "length": 3,
    "tune_backbone": True,
    "recipe": {"learning_rate": 1e-2, "backbone_learning_rate": 1e-3, "warmup": 0, "weight_decay": 0.1},
}
METHOD_TABLE = [
    {"kind": "full"},
    {"kind": "linear_probe"},
    {"kind": "bitfit"},
    {"kind": "prompt_tuning", "length": 3},
    {"kind": "prompt_tuning", "length": 3, "init": "vocabulary"},
    {"kind": "prompt_tuning", "length": 3, "init": "class_labels"},
    {"kind": "p_tuning", "length": 3},
    {"kind": "p_tuning", "length": 3, "encoder": "mlp"},
    TWO_RATES,
    {"kind": "deep_prompts", "length": 3},
    {"kind": "prefix_tuning", "length": 3},
    {"kind": "prefix_tuning", "length": 3, "projection": True, "bottleneck": 8},
    {"kind": "late_prompt", "depth": 0, "generator": "naive"},
    {"kind": "late_prompt", "depth": 2, "generator": "none"},
    {"kind": "late_prompt", "depth": 1, "generator": "naive", "bottleneck": 4},
    {"kind": "late_prompt", "depth": 2, "generator": "max_pooling", "bottleneck": 4},
    {"kind": "late_prompt", "depth": 2, "generator": "average_pooling", "bottleneck": 4},
    {"kind": "idpg", "length": 3, "bottleneck": 4},
    {"kind": "idpg", "length": 3, "bottleneck": 4, "generator": "phm", "phm_dimension": 4},
    *NEUTRAL_TABLE,
]
# these are put on every method
REGULARIZER_TABLE = [
    {"kind": "none"},
    {"kind": "noise", "sigma": 0.1},
    {"kind": "attack", "norm": "linf", "depth": 2, "steps": 1},
]
# and these on some
REGULARIZER_FORMS = [
    {"kind": "noise", "sigma_relative": 1.0, "law": "uniform", "depth": 1, "loss": "symmetric_kl"},
    {"kind": "noise", "space": "text", "operation": "replace"},
    {"kind": "noise", "space": "text", "operation": "insert", "clean_weight": 0},
    {"kind": "attack"},
    {"kind": "attack", "algorithm": "freelb"},
    {"kind": "attack", "algorithm": "freelb", "depth": 1, "clean_weight": 0.5},
    {"kind": "attack", "space": "text", "cosine": -1.0},
]

# what preflight is tried with
PROBED = [
    "full",
    {"kind": "prompt_tuning", "length": 3},
    {"kind": "late_prompt", "depth": 1, "bottleneck": 8},
    {"kind": "peft", "config": {"peft_type": "LORA", "r": 2}},
]
