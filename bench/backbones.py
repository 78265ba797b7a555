"""Backbones: which checkpoint, and what must be known of its shape before it is loaded."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from bench import settings, toy
from bench.settings import Problem, Settings, nearest, shown, unknown
from bench.shapes import SHAPES

# model_type of a Hugging Face config -> the family whose Stack walks it
FAMILIES = {
    "albert": "albert",
    "bert": "bert",
    "deberta-v2": "deberta",  # v3 too
    "gemma": "llama",
    "gpt2": "gpt2",
    "llama": "llama",
    "mistral": "llama",
    "opt": "opt",
    "qwen2": "llama",
    "qwen3": "llama",
    "roberta": "roberta",
    "t5": "t5",
}
FORMS = {"gpt2": "causal", "llama": "causal", "opt": "causal", "t5": "encoder_decoder"}  # the others are masked
NO_FLASH = {"deberta-v2", "t5"}  # model types whose attention flash-attn cannot do
NO_BIASES = {"gemma", "llama", "mistral", "qwen3", "t5"}  # model types with no bias vector in their usual form


class Backbone(Settings):
    name: str
    source: Literal["hub", "folder", "built-in"]
    location: str  # a name on the hub, a folder, or the built-in world's name for it
    revision: str | None = None  # of the hub
    fingerprint: str | None = None  # of the content of a folder, or of the built-in recipe
    model_type: str
    layers: int
    lm_head: bool = True
    weighted: bool = True  # False: a folder with a config.json and no weights

    @property
    def label(self) -> str:
        return self.name

    @property
    def form(self) -> str:
        """masked, causal or encoder_decoder."""
        return FORMS.get(FAMILIES[self.model_type], "masked")

    @property
    def identity(self) -> dict[str, Any]:
        """What makes it this backbone: a folder's content, not where the folder lies."""
        hidden = {"location"} if self.source == "folder" else set[str]()
        return self.model_dump(mode="json", exclude=hidden | {"weighted"})

    @property
    def shaped(self) -> bool:
        """Whether it can be had with random weights."""
        return self.source == "folder" or self.name in SHAPES


def _hub(name: str, location: str, model_type: str, layers: int) -> Backbone:
    return Backbone(name=name, source="hub", location=location, model_type=model_type, layers=layers)


def _built_in(name: str, model_type: str) -> Backbone:
    return Backbone(
        name=name,
        source="built-in",
        location=name,
        fingerprint=toy.fingerprint(name),
        model_type=model_type,
        layers=toy.LAYERS,
    )


BACKBONES = {
    backbone.name: backbone
    for backbone in (
        _built_in("toy-encoder", "roberta"),
        _built_in("toy-decoder", "gpt2"),
        _hub("bert-base", "google-bert/bert-base-uncased", "bert", 12),
        _hub("bert-large", "google-bert/bert-large-uncased", "bert", 24),
        _hub("bert-large-cased", "google-bert/bert-large-cased", "bert", 24),
        _hub("roberta-base", "FacebookAI/roberta-base", "roberta", 12),
        _hub("roberta-large", "FacebookAI/roberta-large", "roberta", 24),
        _hub("albert-base", "albert/albert-base-v2", "albert", 12),
        _hub("albert-xxlarge", "albert/albert-xxlarge-v2", "albert", 12),
        _hub("deberta-v3-base", "microsoft/deberta-v3-base", "deberta-v2", 12),
        _hub("deberta-v3-large", "microsoft/deberta-v3-large", "deberta-v2", 24),
        _hub("gpt2", "openai-community/gpt2", "gpt2", 12),
        _hub("gpt2-large", "openai-community/gpt2-large", "gpt2", 36),
        _hub("gpt2-xl", "openai-community/gpt2-xl", "gpt2", 48),
        _hub("opt-125m", "facebook/opt-125m", "opt", 12),
        _hub("opt-1.3b", "facebook/opt-1.3b", "opt", 24),
        _hub("gemma-2b", "google/gemma-2b", "gemma", 18),
        _hub("t5-base", "google-t5/t5-base", "t5", 12),
        _hub("t5-large", "google-t5/t5-large", "t5", 24),
        _hub("t5-large-lm-adapt", "google/t5-large-lm-adapt", "t5", 24),
        _hub("llama-3-8b", "meta-llama/Meta-Llama-3-8B", "llama", 32),
        _hub("llama-3-70b", "meta-llama/Meta-Llama-3-70B", "llama", 80),
        _hub("llama-3.2-1b", "meta-llama/Llama-3.2-1B", "llama", 16),
        _hub("mistral-7b", "mistralai/Mistral-7B-v0.3", "mistral", 32),
        _hub("qwen2.5-0.5b", "Qwen/Qwen2.5-0.5B", "qwen2", 24),
        _hub("qwen2.5-7b", "Qwen/Qwen2.5-7B", "qwen2", 28),
        _hub("qwen3-0.6b", "Qwen/Qwen3-0.6B", "qwen3", 28),
        _hub("qwen3-8b", "Qwen/Qwen3-8B", "qwen3", 36),
    )
}


def parse(value: object, path: str, problems: list[Problem]) -> Backbone | None:
    """A name of BACKBONES, or `{path: folder}` of a checkpoint as `save_pretrained` writes it, with `name` if wanted.

    The folder may hold environment variables: `{path: $MINILM}`.
    """
    if isinstance(value, str):
        if value in BACKBONES:
            return BACKBONES[value]
        problems.append(Problem(path, unknown(value, BACKBONES) + ", or {path: a checkpoint's folder}"))
        return None
    if not isinstance(value, Mapping) or not isinstance(value.get("path"), str):
        problems.append(Problem(path, f"found {shown(value)}, expected a name or {{path: folder}}"))
        return None
    for key in set(value) - {"path", "name"}:
        close = nearest(key, ["path", "name"])
        problems.append(Problem(f"{path}.{key}", f"unknown key: expected path or name{close}"))
    return _folder(value["path"], value.get("name"), path, problems)


def _folder(location: str, name: object, path: str, problems: list[Problem]) -> Backbone | None:
    folder = Path(os.path.expanduser(os.path.expandvars(location)))
    config = folder / "config.json"
    try:
        content: Any = json.loads(config.read_text("utf-8"))
        model_type, architectures = content["model_type"], content.get("architectures")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        unset = " (is the variable set?)" if "$" in str(folder) else ""
        message = f"found {location!r}{unset}, expected a folder with a checkpoint's config.json: {error!r}"
        problems.append(Problem(f"{path}.path", message))
        return None
    if not isinstance(model_type, str) or model_type not in FAMILIES:
        problems.append(Problem(f"{path}.path", f"{config}: model_type: {unknown(model_type, FAMILIES)}"))
        return None
    if content.get("inner_group_num", 1) != 1:
        found = content["inner_group_num"]
        problems.append(Problem(f"{path}.path", f"{config}: inner_group_num: found {found}, expected 1"))
        return None
    weighted = any(folder.glob("*.safetensors"))
    fields = {
        "name": folder.resolve().name if name is None else name,
        "source": "folder",
        "location": str(folder.resolve()),
        "fingerprint": fingerprint(folder),
        "model_type": model_type,
        "layers": next((content[key] for key in LAYERS if key in content), None),
        # a config that names no class is a shape, which can have one
        "lm_head": str(architectures[0]).endswith(LM_HEADS) if architectures else not weighted,
        "weighted": weighted,
    }
    return settings.parse(Backbone, fields, path, problems)


LAYERS = ("num_hidden_layers", "n_layer", "num_layers")  # what a config.json calls their number
LM_HEADS = ("LM", "LMHeadModel", "ForPreTraining", "ForConditionalGeneration")
CONTENT = ("*.safetensors", "tokenizer*", "special_tokens_map.json", "vocab*", "merges.txt")


def fingerprint(folder: Path) -> str:
    """A hash of a checkpoint: its config, and name, size, first and last MiB of its weights and tokenizer files.

    Not all bytes: a matrix must be read quickly also when the weights are 140 GB.
    """
    digest = hashlib.sha256((folder / "config.json").read_bytes())
    for file in sorted({file for pattern in CONTENT for file in folder.glob(pattern)}):
        size = file.stat().st_size
        digest.update(f"{file.name} {size}".encode())
        with file.open("rb") as handle:
            digest.update(handle.read(2**20))
            handle.seek(max(0, size - 2**20))
            digest.update(handle.read(2**20))
    return digest.hexdigest()[:16]


def check_depth(depth: int, layers: int) -> str | None:
    """What is wrong with `depth` on a backbone of so many layers."""
    if 0 <= depth < layers:
        return None
    return f"depth is {depth}, but the backbone has {layers} layers (0..{layers - 1})"
