"""The built-in world: a generated language, and two small backbones that were trained on it and are shipped here.

An encoder learned the language by masked-word prediction, a decoder by next-word prediction. They are trained again by

    python -m bench.models.toy toy-encoder FOLDER

which writes what `weights/toy-encoder` has: a checkpoint in fp16, and `pretraining.json` with its recipe and scores.
"""

from bench.models.toy.language import ATTRIBUTES, answer_words, examples, sentences, vocabulary
from bench.models.toy.models import KINDS, LAYERS, shape, tokenizer
from bench.models.toy.shipped import Pretraining, folder, pretraining

__all__ = [
    "ATTRIBUTES",
    "KINDS",
    "LAYERS",
    "Pretraining",
    "answer_words",
    "examples",
    "folder",
    "pretraining",
    "sentences",
    "shape",
    "tokenizer",
    "vocabulary",
]
