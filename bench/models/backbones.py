"""Backbones: which checkpoint, and what must be known of its shape before it is loaded."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import SerializerFunctionWrapHandler, model_serializer

from bench.core import files, settings
from bench.core.settings import Problem, Settings, nearest, shown, unknown
from bench.core.strict_files import LIMIT
from bench.models import toy
from bench.models.checkpoints import (
    CONTENT,
    LAYERS,
    LM_HEADS,
    PICKLED,
    SAFE,
    config_fault,
    files_fault,
    fingerprint,
    has,
)
from bench.models.shapes import SHAPES

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

EMBEDDINGS = -1  # the depth of the word embeddings, below layer 0


class Backbone(Settings):
    name: str
    source: Literal["hub", "folder", "built-in"]
    location: str  # a name on the hub, a folder, or the built-in world's name for it
    revision: str | None = None  # of the hub
    fingerprint: str | None = None  # of the content of a checkpoint's folder
    model_type: str
    layers: int
    lm_head: bool = True
    weighted: bool = True  # False: a folder with a config.json and no weights that may be read
    pickle: str | None = None  # why weights may be read from *.bin, which are pickles; None: they may not

    @model_serializer(mode="wrap")
    def _plain(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without `pickle` where there is none, as before it could be: names and boards depend on it."""
        return {name: value for name, value in handler(self).items() if (name, value) != ("pickle", None)}

    @property
    def label(self) -> str:
        return self.name

    @property
    def checkpoint(self) -> str:
        """What `from_pretrained` reads: a folder, or a name on the hub."""
        return str(toy.folder(self.name)) if self.source == "built-in" else self.location

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
        fingerprint=toy.pretraining(toy.folder(name)).fingerprint,
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

    The folder may hold environment variables: `{path: $MINILM}`. With `pickle: why` either may be read from *.bin.
    """
    fields: dict[Any, Any] = dict(value) if isinstance(value, Mapping) else {"name": value}
    expected = ("path", "name", "pickle")
    for key in fields.keys() - set(expected):
        problems.append(
            Problem(f"{path}.{key}", f"unknown key: expected {', '.join(expected)}{nearest(key, expected)}")
        )
    pickle, name = fields.get("pickle"), fields.get("name")
    if "pickle" in fields and not (isinstance(pickle, str) and pickle.strip()):
        problems.append(Problem(f"{path}.pickle", f"found {shown(pickle)}, expected why these weights can be trusted"))
        return None
    if isinstance(fields.get("path"), str):
        return _folder(fields["path"], name, pickle, path, problems)
    if "path" in fields or not isinstance(name, str):
        problems.append(Problem(path, f"found {shown(value)}, expected a name or {{path: folder}}"))
    elif name not in BACKBONES:
        problems.append(Problem(path, unknown(name, BACKBONES) + ", or {path: a checkpoint's folder}"))
    elif pickle is not None and BACKBONES[name].source == "built-in":
        problems.append(Problem(f"{path}.pickle", f"found {shown(pickle)}, expected none: {name} has safetensors"))
    else:
        return BACKBONES[name] if pickle is None else BACKBONES[name].model_copy(update={"pickle": pickle})
    return None


def _folder(location: str, name: object, pickle: str | None, path: str, problems: list[Problem]) -> Backbone | None:
    """The checkpoint in a folder: its config.json is read, and its other files are looked at."""
    try:
        folder = files.expand_path(location)
        content: Any = json.loads(files.read(config := folder / "config.json", LIMIT))
        fault = config_fault(content, FAMILIES) or files_fault(folder, pickle)
        known = CONTENT if pickle is None else (*CONTENT, *PICKLED)
        content_hash = "" if fault else fingerprint(folder, known)
    except (OSError, ValueError, RecursionError) as error:
        unset = " (is the variable set?)" if "$" in location else ""
        message = f"found {location!r}{unset}, expected a folder with a checkpoint's config.json: {error!r}"
        problems.append(Problem(f"{path}.path", message))
        return None
    if fault is not None:
        problems.append(Problem(f"{path}.path", f"{config}: {fault}"))
        return None
    weighted = has(folder, SAFE) or pickle is not None
    architectures = content.get("architectures")
    fields = {
        "name": folder.resolve().name if name is None else name,
        "source": "folder",
        "location": str(folder.resolve()),
        "fingerprint": content_hash,
        "model_type": content["model_type"],
        "layers": next((content[key] for key in LAYERS if key in content), None),
        # a config that names no class is a shape, which can have one
        "lm_head": str(architectures[0]).endswith(LM_HEADS) if architectures else not weighted,
        "weighted": weighted,
        "pickle": pickle,
    }
    return settings.parse(Backbone, fields, path, problems)


def check_depth(depth: int, layers: int) -> str | None:
    """What is wrong with `depth` on a backbone of so many layers."""
    if 0 <= depth < layers:
        return None
    return f"depth is {depth}, but the backbone has {layers} layers (0..{layers - 1})"
