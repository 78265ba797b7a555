"""TextAttack's A2T (Yoo and Qi 2021, arXiv 2109.00544), behind the extra `attack`.

The recipe is the library's own: words ranked by gradient, 20 neighbours in counter-fitted word vectors, at most 10 %
of the words or 4, no stop words, verbs for verbs, sentences alike to a DistilBERT. It fetches the vectors, that
DistilBERT and NLTK's tagger at its first use.
"""

from __future__ import annotations

import importlib
import sys
from collections import OrderedDict
from types import ModuleType
from typing import Any

import torch

from bench.data.batches import collate
from bench.data.templates import Encoded
from bench.models.backbones import EMBEDDINGS
from bench.models.stack import Batch
from bench.regularizers.base import TwoViews
from bench.regularizers.perturbers.base import Run
from bench.regularizers.perturbers.rewriting import Rewriting


class A2t(Rewriting):
    """Attacks example by example, on texts; what comes out is encoded again."""

    def __init__(self, settings: TwoViews, run: Run):
        super().__init__(settings, run)
        if run.templater is None:
            raise ValueError("regularizer: a2t attacks texts, and there are none")
        self.templater, self.texts = run.templater, run.texts
        self.attack = self.build(victim(self))

    def build(self, model: Any) -> Any:
        """The Attack."""
        from textattack.attack_recipes import A2TYoo2021  # pyright: ignore[reportMissingImports]  # an extra

        return A2TYoo2021.build(model, mlm=False)

    def rewrite(self, batch: Batch) -> dict[int, Encoded]:
        fields = self.templater.task.fields
        made: dict[int, Encoded] = {}
        with self.tuned.evaluating():
            for i, label in zip(batch.example_ids.tolist(), batch.labels.tolist(), strict=True):
                result = self.attack.attack(OrderedDict(zip(fields, self.texts[i], strict=True)), label)
                attacked = result.perturbed_result.attacked_text.tokenizer_input
                made[i] = self.encode(attacked, label)
        return made

    def encode(self, texts: str | tuple[str, ...], label: int = 0) -> Encoded:
        return self.templater.encode([texts] if isinstance(texts, str) else texts, label)

    def batch(self, texts: list[str | tuple[str, ...]]) -> Batch:
        encoded = [self.encode(text) for text in texts]
        none = [0] * len(texts)
        return collate(encoded, self.vocabulary.pad, none, none, self.tuned.stack.word_embeddings.weight.device)


def victim(a2t: A2t) -> Any:
    """The model as TextAttack calls it."""
    _import_without_flair()
    from textattack.models.wrappers import ModelWrapper  # pyright: ignore[reportMissingImports]  # an extra

    class Victim(ModelWrapper):  # pyright: ignore[reportUntypedBaseClass]  # of the extra
        model = a2t.tuned
        max_length = a2t.templater.max_length

        def __call__(self, text_input_list: list[Any]) -> torch.Tensor:
            with torch.no_grad():
                return a2t.tuned.head.scores(a2t.tuned.logits(a2t.batch(text_input_list))).float().cpu()

        def get_grad(self, text_input: Any) -> dict[str, Any]:
            """Of the loss of the predicted class, as in TextAttack's own wrappers."""
            batch = a2t.batch([text_input])
            batch.labels.copy_(self([text_input]).argmax(1))
            words = a2t.tuned.prefix_states(batch, EMBEDDINGS)
            gradient = a2t.tuned.gradient(batch, words, words.stream.text)
            return {"ids": batch.ids, "gradient": gradient[0].float().cpu().numpy()}

        def _tokenize(self, inputs: list[Any]) -> list[list[str]]:
            """The tokens of the whole template; those that are not the user's match no word."""
            tokens = a2t.templater.tokenizer.convert_ids_to_tokens
            return [
                [t if e else "\0" for t, e in zip(tokens(one.ids.tolist()), one.perturbable, strict=True)]
                for one in map(a2t.encode, inputs)
            ]

    return Victim()


def _import_without_flair() -> None:
    """TextAttack 0.3.11 imports flair, which does not import with transformers 5, for a tagger that A2T does not use.

    An empty module stands in for it while TextAttack is imported.
    """
    if "textattack" in sys.modules:
        return
    data = _module("flair.data", Sentence=None, Tokenizer=object)
    models = _module("flair.models", SequenceTagger=None)
    flair = _module("flair", data=data, models=models)
    stand_ins = {one.__name__: one for one in (flair, data, models)}
    before = {name: sys.modules.get(name) for name in stand_ins}
    sys.modules.update(stand_ins)
    try:
        importlib.import_module("textattack")
    finally:
        for name, module in before.items():
            del sys.modules[name]
            if module is not None:
                sys.modules[name] = module


def _module(name: str, **content: Any) -> ModuleType:
    module = ModuleType(name)
    vars(module).update(content)
    return module
