"""Single sentences: sentiment, opinion, subjectivity, kind of question.

Templates and answer words are those of LPT's code (xyltt/LPT @634c7b2, encoder-only/data/process.py and
decoder-only/data/utils.py), which took them from LM-BFF. The hub's SST-2 (phrases), MR and MPQA have other
training or test splits than the folders that these are usually found in: compare records of one source only, which they
name. No commit of MPQA's repository was at hand to pin it: the one that was read is in the record.
"""

from __future__ import annotations

from bench.data.tasks.base import Hub, Task, glue


def _task(
    name: str,
    hub: Hub,
    words: tuple[str, ...],
    masked: str = "{sentence} . It was {mask} .",
    test: str = "test",
) -> Task:
    return Task(
        name=name,
        folder=name,
        hub=hub,
        splits={"train": ("train",), "test": (test,)},
        fields=("sentence",),
        labels=tuple(range(len(words))),
        words=words,
        masked=masked,
        causal="{sentence} It was",
    )


MPQA = Hub(path="rahulsikder223/SentEval-MPQA")
MR = Hub(
    path="cornell-movie-review-data/rotten_tomatoes",
    revision="aa13bc287fa6fcab6daf52f0dfb9994269ffea28",
    fields={"sentence": "text"},
)
SUBJ = Hub(
    path="SetFit/subj",
    revision="f3c1162e678417f664d76b21864fdb87b0615fcf",
    fields={"sentence": "text"},
    labels=(1, 0),  # theirs: 0 objective
)
TREC = Hub(
    path="CogComp/trec",
    revision="65752bf53af25bc935a0dce92fb5b6c930728450",  # its Parquet form: the main branch has a script
    fields={"sentence": "text", "label": "coarse_label"},
    labels=("DESC", "ENTY", "ABBR", "HUM", "LOC", "NUM"),
)
KINDS = ("Description", "Entity", "Expression", "Human", "Location", "Number")  # of TREC's questions

SENTENCES = (
    _task("sst2", glue("sst2"), ("terrible", "great"), test="validation"),
    _task("mpqa", MPQA, ("terrible", "great")),
    _task("mr", MR, ("terrible", "great")),
    _task("subj", SUBJ, ("subjective", "objective")),
    _task("trec", TREC, KINDS, masked="{mask} : {sentence}"),
)
