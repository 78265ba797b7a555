"""Batches made ahead of their step, by a thread that ends with it."""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterator

import pytest
import torch
from tiny_models import batch_for, tiny
from tuned_models import encodings_of, tuned

from bench.training.loader import AHEAD, Ahead, Loaded, Loader, Request


@functools.cache
def loaded() -> Loaded:
    return Loaded(batch_for(tiny("roberta")))


def loaders() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("loader")]


def test_batches_come_in_their_order_and_as_asked_for() -> None:
    encodings = encodings_of(tuned("roberta", {"kind": "linear_probe"}))
    requests = [Request(encodings.train, [i, 3 - i], [10 * i, i]) for i in range(4)]
    with Loader(encodings, torch.device("cpu")).ahead(requests) as ahead:
        made = list(ahead)
    for request, loaded in zip(requests, made, strict=True):
        expected = encodings.batch(*request, torch.device("cpu"))
        assert all(torch.equal(one, getattr(loaded.batch, name)) for name, one in vars(expected).items())
        assert loaded.cached_prefix is None
    assert not loaders()


def test_no_more_are_made_than_may_wait() -> None:
    asked: list[int] = []

    def endless() -> Iterator[Loaded]:
        while True:
            asked.append(len(asked))
            yield loaded()

    with Ahead(endless(), AHEAD) as ahead:
        for taken in range(3):
            ahead.settle()
            assert len(asked) == taken + AHEAD
            next(ahead)


def test_what_raises_in_the_thread_raises_in_the_loop() -> None:
    def failing() -> Iterator[Loaded]:
        yield loaded()
        raise KeyError("example")

    taken = 0
    with pytest.raises(KeyError, match="example"), Ahead(failing(), AHEAD) as ahead:
        for _ in ahead:
            taken += 1
    assert taken == 1 and not loaders()


def test_the_thread_ends_with_a_loop_that_fails() -> None:
    with pytest.raises(ZeroDivisionError), Ahead(iter([loaded()] * 100), AHEAD) as ahead:
        next(ahead)
        raise ZeroDivisionError
    assert not loaders()
