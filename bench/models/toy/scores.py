"""What a built-in backbone can do as it comes from its training, measured with transformers' own forward in fp32."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM, AutoTokenizer

from bench.models.toy.language import ATTRIBUTES, SEED, answer_words, answered, examples
from bench.models.toy.models import KINDS
from bench.models.toy.training import loss_of, one_thread, padded

EXAMPLES = 200  # of each task, the first of its test examples
HELD_OUT = 400  # sentences


def measure(name: str, checkpoint: Path) -> tuple[dict[str, float], float]:
    """Accuracy on test examples of each natural task, and the loss on held-out sentences."""
    auto = AutoModelForMaskedLM if KINDS[name] == "roberta" else AutoModelForCausalLM
    model: Any = auto.from_pretrained(checkpoint, dtype=torch.float32, trust_remote_code=False).eval()
    tokens = AutoTokenizer.from_pretrained(checkpoint, trust_remote_code=False)
    with torch.no_grad(), torch.random.fork_rng(devices=[]), one_thread():
        accuracy = {f"toy-natural-{a}": _accuracy(name, model, tokens, a) for a in range(ATTRIBUTES)}
        torch.manual_seed(SEED)  # of what is masked
        held_out = padded(tokens, answered(HELD_OUT, f"{SEED}/held out", f"{SEED}/held out/answers"))
        return accuracy, loss_of(name, model, tokens, held_out).item()


def _accuracy(name: str, model: Any, tokens: Any, attribute: int) -> float:
    """Share of test examples after which the right one of the two natural answers is the likelier."""
    made = examples(attribute, "test")[:EXAMPLES]
    ending = f"answer: {tokens.mask_token}" if KINDS[name] == "roberta" else "answer:"
    ids = padded(tokens, [f"{one['sentence']} {ending}" for one in made])
    mask = ids != tokens.pad_token_id
    place = mask.sum(1) - (2 if KINDS[name] == "roberta" else 1)
    logits = model(input_ids=ids, attention_mask=mask).logits[torch.arange(len(ids)), place]
    answers = logits[:, tokens.convert_tokens_to_ids(list(answer_words(attribute, natural=True)))]
    return int((answers.argmax(1) == torch.tensor([one["label"] for one in made])).sum()) / len(made)
