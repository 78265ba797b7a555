"""The built-in backbones before they are trained: tokenizer and shape."""

from __future__ import annotations

from typing import Any

from bench.models.toy.language import vocabulary

KINDS = {"toy-encoder": "roberta", "toy-decoder": "gpt2"}
LAYERS = 4
HIDDEN = 128
INITIALIZER_RANGE = 0.08  # about 1/sqrt(HIDDEN); from 0.02 the encoder stays at word frequencies
SPECIAL = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]


def tokenizer(name: str) -> Any:
    """One token a word, in the form `from_pretrained` reads; only the encoder closes a text."""
    from tokenizers import AddedToken, Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import WhitespaceSplit
    from tokenizers.processors import TemplateProcessing
    from transformers import PreTrainedTokenizerFast

    words = vocabulary()
    flat = [w for pair in words["pools"] for pool in pair for w in pool]
    flat += [w for pair in words["answers"] for w in pair] + words["fillers"] + ["answer:"]
    ids = {word: i for i, word in enumerate(SPECIAL + flat)}
    core = Tokenizer(WordLevel(ids, unk_token="<unk>"))
    core.pre_tokenizer = WhitespaceSplit()
    marks = [(token, ids[token]) for token in ("<s>", "</s>")]
    closing = " </s>" if KINDS[name] == "roberta" else ""
    core.post_processor = TemplateProcessing(f"<s> $A{closing}", f"<s> $A{closing} $B:0{closing}", marks)
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        bos_token="<s>",
        eos_token="</s>",
        cls_token="<s>",
        sep_token="</s>",
        unk_token="<unk>",
        pad_token="<pad>",
        mask_token=AddedToken("<mask>", lstrip=True, special=True),
    )


def shape(name: str, vocabulary_size: int) -> Any:
    """The untrained model of `name`. No dropout: its results are then the same on any number of ranks."""
    from transformers import GPT2Config, GPT2LMHeadModel, RobertaConfig, RobertaForMaskedLM

    if KINDS[name] == "roberta":
        return RobertaForMaskedLM(
            RobertaConfig(
                vocab_size=vocabulary_size,
                hidden_size=HIDDEN,
                num_hidden_layers=LAYERS,
                num_attention_heads=4,
                intermediate_size=4 * HIDDEN,
                max_position_embeddings=66,
                type_vocab_size=1,
                initializer_range=INITIALIZER_RANGE,
                hidden_dropout_prob=0.0,
                attention_probs_dropout_prob=0.0,
                bos_token_id=0,
                pad_token_id=1,
                eos_token_id=2,
            )
        )
    return GPT2LMHeadModel(
        GPT2Config(
            vocab_size=vocabulary_size,
            n_embd=HIDDEN,
            n_layer=LAYERS,
            n_head=4,
            n_positions=64,
            initializer_range=INITIALIZER_RANGE,
            resid_pdrop=0.0,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
            bos_token_id=0,
            pad_token_id=1,
            eos_token_id=2,
        )
    )
