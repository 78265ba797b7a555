"""Every task over every kind of tokenizer: its template, its answer words, which tokens are the user's."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_tokenizers import FORMS, WORDS, pieces, tiny_tokenizer

from bench.core.settings import InputError
from bench.data.splits import read_examples, split
from bench.data.tasks import TASKS, Regime, Task
from bench.data.tasks.superglue import copa, multirc, wsc
from bench.data.templates import Encoded, Templater
from bench.data.verbalizers import answer_ids, tokens_of
from bench.models.backbones import BACKBONES

REAL = {name: task for name, task in TASKS.items() if task.source != "random"}
LINEAR = [kind for kind in FORMS if kind != "t5"]
every_task = pytest.mark.parametrize("name", REAL)
every_kind = pytest.mark.parametrize("kind", FORMS)


def texts(task: Task, words: int = 4) -> list[str]:
    """One for each field, of words that are no two fields' in the same order; a longer one for each further field."""
    return [" ".join(WORDS[(5 * i + j) % len(WORDS)] for j in range(words * (i + 1))) for i in range(len(task.fields))]


def written(template: str, values: dict[str, str], only: set[str | None]) -> str:
    """The template filled in: the parts of it that are of these fields, or with None its own, without spaces."""
    made = ""
    for name, literal in pieces(template):
        made += literal if None in only else ""
        made += values.get(name, "") if name in only else ""
    return plainly(made)


def plainly(text: str) -> str:
    return "".join(text.lower().split())


def read(kind: str, encoded: Encoded, eligible: bool) -> str:
    """The text of the tokens that may be perturbed, or of the others, without special ones."""
    ids = encoded.ids[encoded.perturbable == int(eligible)]
    return plainly(tiny_tokenizer(kind).decode(ids, skip_special_tokens=True))


def changeable(task: Task) -> set[str | None]:
    return set(task.fields) - set(task.fixed)


def others(task: Task) -> set[str | None]:
    return {None, *task.fixed}


@every_kind
@every_task
def test_template_answer_and_eligible_words(name: str, kind: str) -> None:
    task, tokens, form = REAL[name], tiny_tokenizer(kind), FORMS[kind]
    values = dict(zip(task.fields, texts(task), strict=True))
    encoded = Templater(task, tokens, form, False, 256).encode([*values.values()], 1)
    ids = encoded.ids.tolist()
    assert encoded.label == 1 and len(ids) == len(encoded.perturbable) == len(encoded.segments)
    if form == "masked":
        assert ids[encoded.answer] == tokens.mask_token_id and ids.count(tokens.mask_token_id) == 1
    else:
        assert encoded.answer == len(ids) - 1
    if form == "causal":
        assert ids[-1] not in tokens.all_special_ids
    template = task.template(form)
    assert read(kind, encoded, True) == written(template, values, changeable(task))
    assert read(kind, encoded, False) == written(template, values, others(task))


@every_kind
@every_task
def test_answer_words_are_known_tokens_that_differ(name: str, kind: str) -> None:
    ids = answer_ids(REAL[name], BACKBONES["bert-base"], tiny_tokenizer(kind))
    assert len(set(ids)) == len(REAL[name].words)
    words = tiny_tokenizer(kind).convert_ids_to_tokens(ids)
    assert [word.strip("Ġ▁").lower() for word in words] == [word.lower() for word in REAL[name].words]


@every_kind
@every_task
def test_long_texts_are_cut_and_the_template_stays(name: str, kind: str) -> None:
    """The longest first: the one short text stays whole, and the long ones become as long as each other."""
    task, form = REAL[name], FORMS[kind]
    template = task.template(form)
    standing = [field for field in task.fields if f"{{{field}}}" in template]
    short = dict.fromkeys((*task.fixed, *standing[1:][-1:]), "film")
    values = {field: short.get(field, text) for field, text in zip(task.fields, texts(task, 40), strict=True)}
    whole = Templater(task, tiny_tokenizer(kind), form, False, 4096).encode([*values.values()], 0)
    needed = int((whole.perturbable == 0).sum())
    for length in (needed + 12, needed + 25):
        encoded = Templater(task, tiny_tokenizer(kind), form, False, length).encode([*values.values()], 0)
        assert length - 4 <= len(encoded.ids) <= length
        assert read(kind, encoded, False) == written(template, values, others(task))
        assert read(kind, encoded, True).count("film") >= len(set(short) - set(task.fixed))
        assert read(kind, encoded, True) != written(template, values, changeable(task))
    with pytest.raises(InputError, match=f"max_length: found {needed}, too short for the template of task {name}"):
        Templater(task, tiny_tokenizer(kind), form, False, needed).encode([*values.values()], 0)


@pytest.mark.parametrize("kind", LINEAR)
@every_task
def test_a_linear_head_reads_a_text_or_a_pair_without_an_answer(name: str, kind: str) -> None:
    task, tokens = REAL[name], tiny_tokenizer(kind)
    values = dict(zip(task.fields, texts(task), strict=True))
    encoded = Templater(task, tokens, FORMS[kind], True, 256).encode([*values.values()], 0)
    template = " ".join(task.sequences)
    assert tokens.mask_token_id not in encoded.ids and encoded.answer == len(encoded.ids) - 1
    assert read(kind, encoded, True) == written(template, values, changeable(task))
    assert read(kind, encoded, False) == written(template, values, others(task))
    pair = len(task.sequences) == 2 and kind in ("bert", "albert")
    assert sorted(set(encoded.segments.tolist())) == ([0, 1] if pair else [0])
    if pair:
        second = encoded.ids[encoded.segments == 1]
        assert plainly(tokens.decode(second, skip_special_tokens=True)) == written(
            task.sequences[1], values, {None, *task.fields}
        )


@every_kind
@pytest.mark.parametrize("plain", [False, True])
def test_many_at_once_are_as_one_by_one(kind: str, plain: bool) -> None:
    task = REAL["multirc"]
    templater = Templater(task, tiny_tokenizer(kind), FORMS[kind], plain, 40)
    several = [texts(task, words) for words in (1, 30, 2, 9, 1, 14)] + [["", "", ""], ["x", " film ", "☃ é"]]
    labels = [i % 2 for i in range(len(several))]
    for one, (example, label) in zip(
        templater.encode_all(several, labels), zip(several, labels, strict=True), strict=True
    ):
        alone = templater.encode(example, label)
        for part in ("ids", "perturbable", "segments"):
            assert np.array_equal(getattr(one, part), getattr(alone, part))
        assert (one.answer, one.label) == (alone.answer, alone.label)


def own(**fields: Any) -> Task:
    given = {"labels": (0, 1), "words": ("bad", "great"), "masked": "{text} : {mask}", "causal": "{text} :"}
    return Task(**{"name": "own", "fields": ("text",), **given, **fields})


@every_kind
def test_a_field_may_stand_twice_or_not_at_all(kind: str) -> None:
    both = "{text} , {text} :"
    task = own(fields=("text", "note"), masked=both + " {mask}", causal=both, encoder_decoder=both)
    templater = Templater(task, tiny_tokenizer(kind), FORMS[kind], False, 22)
    encoded = templater.encode(["the quiet town grew", "of no use"], 0)
    assert read(kind, encoded, True) == 2 * "thequiettowngrew"
    cut = templater.encode([" ".join(WORDS), ""], 0)
    half = read(kind, cut, True)
    assert half[: len(half) // 2] == half[len(half) // 2 :] and len(cut.ids) > 18
    assert read(kind, cut, False) == ",:"


def test_the_answer_is_the_templates_mask() -> None:
    """Not one that a user wrote, and also where the mask token takes in the space at the end of a text."""
    tokens = tiny_tokenizer("roberta")
    encoded = Templater(REAL["qqp"], tokens, "masked", False, 48).encode(["a <mask> film  ", "town"], 0)
    masks = [i for i, token in enumerate(encoded.ids) if token == tokens.mask_token_id]
    assert len(masks) == 2 and encoded.answer == masks[1] and not encoded.perturbable[masks[1]]


def test_a_token_of_field_and_template_is_not_the_users() -> None:
    """`..` is one token in some byte-level vocabularies; without it the template would lose its full stop."""
    tokens = tiny_tokenizer("gpt2")
    tokens.backend_tokenizer.add_tokens([".."])
    encoded = Templater(own(causal="{text}. So"), tokens, "causal", False, 48).encode(["the town."], 0)
    words = tokens.convert_ids_to_tokens(encoded.ids)
    assert ".." in words and not encoded.perturbable[words.index("..")]


@pytest.mark.parametrize(
    ("kind", "words", "expected"),
    [
        ("bert", ("great", "zqxj"), r"words\[1\]: 'zqxj', for label 1 in '{text} : {mask}', is \['z', '##q', .*\]"),
        ("bert", ("☃", "great"), r"words\[0\]: '☃', .* is \['\[UNK\]'\] for the tokenizer of bert-base, expected one"),
        ("bert", ("Great", "great"), r"words\[1\]: 'great', .* is \['great'\] .*, and so is 'Great', expected a token"),
        ("gpt2", ("great", "zqxj"), r"words\[1\]: 'zqxj'.*, expected one known token"),
        ("t5", ("☃", "great"), r"words\[0\]: '☃', .*, expected one known token"),
        ("albert", ("Great", "great"), r"words\[1\]: 'great'.* and so is 'Great'"),
    ],
)
def test_words_that_are_no_token_are_named(kind: str, words: tuple[str, str], expected: str) -> None:
    how = r": give others as task: {name: own, words: \[\.\.\., \.\.\.\]}"
    with pytest.raises(InputError, match=f"task own: {expected}.*{how}"):
        answer_ids(own(words=words), BACKBONES["bert-base"], tiny_tokenizer(kind))


@every_kind
def test_a_word_of_several_tokens_has_them_all(kind: str) -> None:
    tokens = tiny_tokenizer(kind)
    assert len(tokens_of(tokens, "zqxj")) > 1
    assert plainly(tokens.decode(tokens_of(tokens, "zqxj"))) == "zqxj"


COPA = {"premise": "The sun rose.", "choice1": "The moon set.", "choice2": "I woke", "question": "cause", "label": 1}
SPANS = {"span1_index": 0, "span1_text": "Tina", "span2_index": 3, "span2_text": "it"}
ANSWERS = [{"text": "No", "label": 0, "idx": 0}, {"text": "Yes, it is", "label": 1, "idx": 1}]


def test_rows_of_copa_go_on_from_a_connective() -> None:
    (row,) = copa(COPA)
    assert (row["choice1"], row["choice2"], row["premise"]) == ("the moon set", "i woke", "The sun rose")
    assert (row["connective"], row["question"], row["label"]) == ("because", "cause", 1)
    assert copa({**COPA, "question": "effect"})[0]["connective"] == "so"


def test_rows_of_wsc_have_the_pronoun_in_stars() -> None:
    row = {"text": "Tina wanted that it rains .", "label": True}
    (nested,), (flat,) = wsc({**row, "target": SPANS}), wsc({**row, **SPANS, "label": 1})
    assert nested["text"] == flat["text"] == "Tina wanted that *it* rains ."
    assert (nested["pronoun"], nested["target"], nested["label"]) == ("it", "Tina", True)
    assert (flat["pronoun"], flat["target"], flat["label"]) == ("it", "Tina", 1)


def test_rows_of_multirc_are_one_for_each_answer() -> None:
    questions = [{"question": "Is it?", "answers": ANSWERS}, {"question": "Why?", "answers": ANSWERS[:1]}]
    nested = multirc({"passage": {"text": "It is.", "questions": questions}})
    assert [(row["question"], row["answer"], row["label"]) for row in nested] == [
        ("Is it?", "No", 0),
        ("Is it?", "Yes, it is", 1),
        ("Why?", "No", 0),
    ]
    flat = multirc({"paragraph": "It is.", "question": "Is it?", "answer": "No", "label": 0})
    assert flat[0]["passage"] == nested[0]["passage"] == "It is."


@pytest.mark.skipif("BENCH_DATA" not in os.environ, reason="needs BENCH_DATA")
@pytest.mark.parametrize("fewglue", [False, True])
@pytest.mark.parametrize("name", [name for name, task in REAL.items() if task.source != "built-in"])
def test_real_data_reads(name: str, fewglue: bool) -> None:
    task = REAL[name]
    folder = task.fewglue if fewglue else task.folder
    if not folder or not (Path(os.environ["BENCH_DATA"]) / folder).is_dir():
        pytest.skip("not there")
    found = read_examples(task, fewglue)
    splits = split(task, Regime(fewglue=True) if fewglue else Regime(per_class=4), 0)
    assert {len(example.texts) for example in splits.train + splits.test} == {len(task.fields)}
    assert sorted({example.label for example in splits.test}) == list(range(len(task.labels)))
    if fewglue:
        assert sorted(found.splits) == ["dev", "test", "train"] and len(splits.train) >= 32 <= len(splits.dev)
    else:
        assert len(splits.train) == len(splits.dev) == 4 * len(task.labels) and len(splits.test) > 250
