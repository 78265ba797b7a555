"""Benchmarks of our speed: `peers.py against MODEL` and `peers.py own MODEL`.

MODEL is the folder of a small BERT without an LM head (all-MiniLM-L6-v2); BENCH_DATA names the folder with sst2/.

against: `peft` and the Hugging Face Trainer against `bench.training.train`, on SST-2 at batch 32 in fp32. Both train on
the same tokens with AdamW, clipped to norm 1, with the checkpoint's dropout everywhere (our `lower_dropout`), without
evaluating in the window. What differs is left as each side has it: we group texts by length, run the last layer for
the token that is read, and have no pooler in front of the classifier. A second form of the
peer is given our batches, one by one.

own: a late prompt in the middle, computed and with the feature cache, against prompt tuning, on 12 random layers as
wide as MODEL's at 64 tokens; what counting the operations predicts; activations from the ledger of memory.

Runs alternate, each side in a process of its own that waits meanwhile. Printed are medians, and least..most of all
runs. Nothing else should run: on a machine that is shared, threads wait for each other and the figures mean nothing.
"""

from __future__ import annotations

import argparse
import itertools
import json
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

BATCH = 32
WARMUP = 5  # steps that are not timed, on both sides
KEPT = {"train": 2048, "validation": 64, "test": 64}  # lines of SST-2: what is evaluated lies outside the window
METHODS: dict[str, Any] = {
    "prompt tuning, 20": {"kind": "prompt_tuning", "length": 20, "scale": 0.05},
    "LoRA, r = 8": {"kind": "peft", "config": {"peft_type": "LORA", "r": 8}},
    "full tuning": {"kind": "full", "recipe": {"learning_rate": 1e-4}},
}
TARGETS = {"prompt tuning, 20": 1.5, "LoRA, r = 8": 1.3, "full tuning": 1.3}
LAYERS, TOKENS = 12, 64
PROMPT, LATE, CACHED = "prompt tuning, 20", "late prompt", "late prompt, cached"
SHARE_OF_COUNTED = 0.85
SHARE_OF_ACTIVATIONS = 0.6


class Window(NamedTuple):
    """What one run measured behind its warm-up."""

    samples_per_second: float
    tokens_per_second: float  # real ones
    flops: float = 0.0  # of a step
    activations: int = 0  # bytes at the peak of training


class Work(NamedTuple):
    """What is trained on: each text's tokens and class, and the texts of each step."""

    ids: list[list[int]]
    labels: list[int]
    batches: list[list[int]]
    followed: int  # the step that we do not time: its memory is measured


# ours


def cell_of(fields: dict[str, Any]) -> Any:
    from bench.matrix import matrix

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "one.yaml"
        file.write_text(json.dumps({"name": "one", "axes": fields}))
        (cell,) = matrix.load(str(file)).expand()
    return cell


def work(fields: dict[str, Any]) -> Work:
    """Of a cell: what it trains on in which order."""
    from bench.data.batches import heaviest, training_batches
    from bench.training.setup import prepare

    cell = cell_of(fields)
    examples = prepare(cell)[1].train
    lengths = [len(example.ids) for example in examples]
    drawn = list(training_batches(lengths, cell.batch_size, cell.steps, cell.seed_of("order")))
    ids, labels = [example.ids.tolist() for example in examples], [example.label for example in examples]
    return Work(ids, labels, drawn, heaviest(drawn, lengths))


def ours(fields: dict[str, Any]) -> Window:
    """A whole cell, as a worker serves it."""
    from bench.profiler import PhaseClock
    from bench.training.engine import World
    from bench.training.train import run_cell

    global world
    world = world or World.join()
    record = run_cell(cell_of(fields), world, PhaseClock(), lambda progress: None)
    assert record is not None and record.cost is not None
    (row,) = (row for row in record.memory if row.phase == "train")
    cost = record.cost
    assert cost.samples_per_second and cost.tokens_per_second and cost.flops
    return Window(cost.samples_per_second, cost.tokens_per_second, cost.flops, row.owners["activations"])


world: Any = None  # of this process, joined once


# the peer


def peer(model: str, method: str, done: Work, same_batches: bool) -> Window:
    """`done` by peft and the Trainer; the batches are its own, shuffled, or the same ones."""
    import transformers
    from torch.utils.data import DataLoader

    transformers.logging.set_verbosity_error()
    rows = [
        {"input_ids": ids, "attention_mask": [1] * len(ids), "labels": label}
        for ids, label in zip(done.ids, done.labels, strict=True)
    ]
    pad = transformers.DataCollatorWithPadding(transformers.AutoTokenizer.from_pretrained(model))
    seen: list[int] = []  # real tokens of each batch
    ends: list[float] = []  # of each step

    def collate(examples: list[dict[str, Any]]) -> Any:
        seen.append(sum(len(example["input_ids"]) for example in examples))
        return pad(examples)

    class Ends(transformers.TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            ends.append(time.perf_counter())

    class SameBatches(transformers.Trainer):
        def get_train_dataloader(self) -> Any:
            return self.accelerator.prepare(DataLoader(rows, batch_sampler=done.batches, collate_fn=collate))

    with tempfile.TemporaryDirectory() as folder:
        trainer = (SameBatches if same_batches else transformers.Trainer)(
            model=peer_model(model, method),
            args=transformers.TrainingArguments(
                output_dir=folder,
                per_device_train_batch_size=BATCH,
                max_steps=len(done.batches),
                max_grad_norm=1.0,
                save_strategy="no",
                report_to=[],
                disable_tqdm=True,
                use_cpu=True,
            ),
            train_dataset=rows,
            data_collator=collate,
            callbacks=[Ends()],
        )
        trainer.remove_callback(transformers.PrinterCallback)
        trainer.train()
    timed = [step for step in range(WARMUP, len(ends)) if not (same_batches and step == done.followed)]
    seconds = sum(ends[step] - ends[step - 1] for step in timed)
    return Window(BATCH * len(timed) / seconds, sum(seen[step] for step in timed) / seconds)


def peer_model(model: str, method: str) -> Any:
    import peft
    from transformers import AutoModelForSequenceClassification

    backbone = AutoModelForSequenceClassification.from_pretrained(model, num_labels=2)
    match METHODS[method]["kind"]:
        case "prompt_tuning":
            return peft.get_peft_model(backbone, peft.PromptTuningConfig(task_type="SEQ_CLS", num_virtual_tokens=20))
        case "peft":
            return peft.get_peft_model(backbone, peft.LoraConfig(task_type="SEQ_CLS", r=8))
        case _:
            return backbone


# side by side


def against(model: str, rounds: int, shared: dict[str, Any], threads: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        keep(Path(os.environ["BENCH_DATA"]) / "sst2", Path(folder) / "sst2")
        os.environ["BENCH_DATA"] = folder  # inherited by the processes of both sides
        cell = {"backbone": {"path": model, "name": "measured"}, "task": "sst2", "lower_dropout": True}
        fields = {name: {**shared, **cell, "method": method} for name, method in METHODS.items()}
        found: dict[str, list[tuple[Window, Window, Window]]] = {name: [] for name in METHODS}
        with process(threads) as our_side, process(threads) as their_side:
            done = our_side.submit(work, next(iter(fields.values()))).result()
            for number, name in itertools.product(range(rounds), METHODS):
                tell(number, name)
                windows = (
                    their_side.submit(peer, model, name, done, False).result(),
                    our_side.submit(ours, fields[name]).result(),
                    their_side.submit(peer, model, name, done, True).result(),
                )
                found[name].append(windows)
    for unit in ("samples_per_second", "tokens_per_second"):
        print(f"{unit:20} {'peer':>20} {'ours':>20} {'ratio':>6} {'target':>7} {'peer, our batches':>20} {'ratio':>6}")
        for name, windows in found.items():
            sides = [[getattr(one, unit) for one in side] for side in zip(*windows, strict=True)]
            peers, mine, same = map(statistics.median, sides)
            ratios = f"{mine / peers:6.2f} {TARGETS[name]:7.2f} {spread(sides[2]):>20} {mine / same:6.2f}"
            print(f"{name:20} {spread(sides[0]):>20} {spread(sides[1]):>20} {ratios}")


def own(model: str, rounds: int, shared: dict[str, Any], threads: int) -> None:
    late = {"kind": "late_prompt", "depth": LAYERS // 2, "generator": "naive"}
    with tempfile.TemporaryDirectory() as folder:
        os.environ["BENCH_CACHE"] = folder  # states of random layers are of use to nobody else
        config = json.loads((Path(model) / "config.json").read_text("utf-8"))
        (Path(folder) / "config.json").write_text(json.dumps({**config, "num_hidden_layers": LAYERS}))
        cell = {"backbone": {"path": folder, "name": "measured"}, "task": "random-tokens", "weights": "random"}
        fields = {
            PROMPT: {**shared, **cell, "max_length": TOKENS, "method": METHODS[PROMPT]},
            LATE: {**shared, **cell, "max_length": TOKENS, "method": late},
            CACHED: {**shared, **cell, "max_length": TOKENS, "method": late, "feature_cache": True},
        }
        found: dict[str, list[Window]] = {name: [] for name in fields}
        with process(threads) as side:
            for number, name in itertools.product(range(rounds), fields):
                tell(number, name)
                found[name].append(side.submit(ours, fields[name]).result())
    base = found[PROMPT][0]
    rate = statistics.median(one.samples_per_second for one in found[PROMPT])
    print(
        f"{'':20} {'samples/s':>20} {'ratio':>6} {'target':>7} {'counted':>8} {'of it':>6} {'activations':>12} {'':>5}"
    )
    for name, target in ((PROMPT, 1.0), (LATE, 1.5), (CACHED, 2.2)):
        rates = [one.samples_per_second for one in found[name]]
        first, ratio = found[name][0], statistics.median(rates) / rate
        counted = base.flops / first.flops
        speed = f"{ratio:6.2f} {target:7.2f} {counted:8.2f} {ratio / counted:6.0%}"
        held = f"{first.activations / 2**20:8.1f} MiB {first.activations / base.activations:5.0%}"
        print(f"{name:20} {spread(rates):>20} {speed} {held}")
    print(f"expected: {SHARE_OF_COUNTED:.0%} of what is counted, {SHARE_OF_ACTIVATIONS:.0%} of activations at most")


def tell(number: int, name: str) -> None:
    print(f"round {number + 1}: {name}, load {os.getloadavg()[0]:.1f}", file=sys.stderr)


def keep(source: Path, folder: Path) -> None:
    """The first lines of each split."""
    folder.mkdir()
    for split, count in KEPT.items():
        with (source / f"{split}.jsonl").open(encoding="utf-8") as lines:
            (folder / f"{split}.jsonl").write_text("".join(line for line, _ in zip(lines, range(count), strict=False)))


def process(threads: int) -> ProcessPoolExecutor:
    """One of its own, which keeps what it has imported."""
    return ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), _start, (threads,))


def _start(threads: int) -> None:
    import torch

    torch.set_num_threads(threads)


def spread(values: list[float]) -> str:
    return f"{statistics.median(values):,.1f} ({min(values):,.1f}..{max(values):,.1f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["against", "own"])
    parser.add_argument("model", help="the folder of the checkpoint")
    parser.add_argument("--rounds", type=int, default=5, help="runs of each that count")
    parser.add_argument("--steps", type=int, default=25, help=f"of each run; {WARMUP} are not timed")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--zero", default="zero0", help="the ZeRO configuration of our side")
    given = parser.parse_args()
    shared = {
        "regime": "full",
        "regularizer": "none",
        "head": {"kind": "linear"},
        "zero": given.zero,
        "ranks": 1,
        "seed": 0,
        "steps": given.steps,
        "evaluate_every": given.steps,
        "select": "last",
        "batch_size": BATCH,
        "precision": "fp32",
    }
    {"against": against, "own": own}[given.what](str(Path(given.model).resolve()), given.rounds, shared, given.threads)


if __name__ == "__main__":
    main()
