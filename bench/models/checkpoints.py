"""A checkpoint in a folder: what of it is read, what it is called by, and what in it is refused.

Weights are safetensors, which hold numbers alone. A pickle can hold code that runs as it is read.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from pathlib import Path
from typing import Any

from bench.core.settings import shown, unknown

SAFE = ("model.safetensors", "model.safetensors.index.json")
PICKLES = ("pytorch_model.bin", "pytorch_model.bin.index.json")
ATTENTIONS = ("eager", "sdpa", "flash_attention_2")
LAYERS = ("num_hidden_layers", "n_layer", "num_layers")  # what a config.json calls their number
LM_HEADS = ("LM", "LMHeadModel", "ForPreTraining", "ForConditionalGeneration")
PICKLED = ("pytorch_model*",)
CONTENT = ("*.safetensors", "tokenizer*", "special_tokens_map.json", "vocab*", "merges.txt")


def config_fault(content: Any, model_types: Collection[str]) -> str | None:
    """What is wrong in a config.json: what Stacks cannot walk, and what would have transformers read something else."""
    if not isinstance(content, dict) or not isinstance(content.get("architectures") or [], list):
        return f"found {shown(content)}, expected the config of a checkpoint"
    if not isinstance(model_type := content.get("model_type"), str) or model_type not in model_types:
        return f"model_type: {unknown(model_type, model_types)}"
    if (groups := content.get("inner_group_num", 1)) != 1:
        return f"inner_group_num: found {groups}, expected 1"
    for key in ("attn_implementation", "_attn_implementation"):
        if content.get(key) not in (None, *ATTENTIONS):  # code of a repository, which transformers would fetch and run
            return f"{key}: found {shown(content[key])}, expected {', '.join(ATTENTIONS)} or none"
    if "transformers_weights" in content:
        return f"transformers_weights: found {shown(content['transformers_weights'])}, expected none: {SAFE[0]} is read"
    return None


def files_fault(folder: Path, pickle: str | None) -> str | None:
    """What is wrong beside a config.json."""
    if (folder / "adapter_config.json").exists():
        return "found an adapter_config.json beside it, expected whole weights: transformers would add the adapter"
    if pickle is not None and has(folder, SAFE):
        return f"pickle: found {shown(pickle)}, expected none: there are safetensors beside it, which are read"
    if pickle is not None and not has(folder, PICKLES):
        return f"pickle: found {shown(pickle)}, expected {' or '.join(PICKLES)} beside it"
    return None


def has(folder: Path, names: tuple[str, ...]) -> bool:
    return any((folder / name).is_file() for name in names)


def unread(folder: Path) -> str:
    """What a folder has in place of weights that may be read, and what was expected."""
    if not has(folder, PICKLES):
        return f"found no {SAFE[0]} in {folder}: expected it, or weights: random"
    found = next(name for name in PICKLES if (folder / name).is_file())
    return (
        f"found {found} and no {SAFE[0]} in {folder}: a pickle can hold code that runs as it is read. Expected "
        f"safetensors, or `pickle:` beside `path` with the reason why this one can be trusted"
    )


def fingerprint(folder: Path, content: tuple[str, ...]) -> str:
    """A hash of a checkpoint: its config, and name, size, first and last MiB of its weights and tokenizer files.

    Not all bytes: a matrix must be read quickly also when the weights are 140 GB.
    """
    digest = hashlib.sha256((folder / "config.json").read_bytes())
    for file in sorted({file for pattern in content for file in folder.glob(pattern) if file.is_file()}):
        size = file.stat().st_size
        digest.update(f"{file.name} {size}".encode())
        with file.open("rb") as handle:
            digest.update(handle.read(2**20))
            handle.seek(max(0, size - 2**20))
            digest.update(handle.read(2**20))
    return digest.hexdigest()[:16]


def has_safetensors(location: str) -> bool | None:
    """Whether a checkpoint on the hub has; None where that is not known: it cannot be asked, or there is none."""
    from huggingface_hub import HfApi, try_to_load_from_cache

    if any(isinstance(try_to_load_from_cache(location, name), str) for name in SAFE):
        return True
    try:
        found = any(HfApi().file_exists(location, name) for name in SAFE)
        return found or (False if HfApi().file_exists(location, "config.json") else None)
    except Exception:  # of whatever the hub's client is made of: loading says more
        return None
