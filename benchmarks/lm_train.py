"""Training throughput and peak memory of `Llama3ForCausalLM` against transformers' Llama.

Model: a Llama of 12M parameters with random weights (`--size 135m`: SmolLM2's sizes). Size: 4 rows
of 512 tokens a step, fp32, AdamW, on the CPU (`--quick`: 2 rows of 256). Both sides do the same
steps on the same batches in this process, in turns that start with the other side each time; a
ratio is transformers' time over ours within a turn, so above 1 we are faster, in CPU time, which
neighbours on the machine disturb least. Memory is the peak of a process of its own for each side.

Keys of the JSON object on the last line: `speed_ratio` (median over the turns) and
`speed_ratio_interval` (95 % of the median, by bootstrap over the turns), `memory_ratio` (our peak
over theirs), `document_mask_ratio` (our speed with packed documents masked from one another over
without) with its interval, and `tokens_per_s` of ours.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel

from ragkit.models import Llama3Config, Llama3ForCausalLM

SIZES: dict[str, dict[str, Any]] = {
    "12m": {
        "vocab_size": 8192,
        "hidden_size": 320,
        "intermediate_size": 896,
        "num_hidden_layers": 8,
        "num_attention_heads": 10,
        "num_key_value_heads": 5,
        "tie_word_embeddings": True,
    },
    "135m": {
        "vocab_size": 49152,
        "hidden_size": 576,
        "intermediate_size": 1536,
        "num_hidden_layers": 30,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
        "tie_word_embeddings": True,
    },
}
NUM_DOCUMENTS = 4
STEPS_FOR_MEMORY = 3
SIDES = ("ragkit", "transformers")


def main() -> None:
    arguments = parse_arguments()
    if arguments.memory_of:
        print(measure_memory(arguments.memory_of, arguments))
        return
    torch.set_num_threads(arguments.threads)
    times = measure_times(arguments)
    speed = times["transformers"] / times["ragkit"]
    masked = times["ragkit"] / times["documents"]
    peaks = {side: float(run_for_memory(side)) for side in SIDES}
    tokens = arguments.rows * arguments.context_length
    for name, seconds in times.items():
        print(f"{name:14} {tokens / statistics.median(seconds):8.0f} tokens per CPU second")
    for side, peak in peaks.items():
        print(f"{side:14} {peak:8.0f} MiB peak")
    result = {
        "speed_ratio": round(statistics.median(speed), 4),
        "speed_ratio_interval": interval(speed),
        "memory_ratio": round(peaks["ragkit"] / peaks["transformers"], 4),
        "document_mask_ratio": round(statistics.median(masked), 4),
        "document_mask_ratio_interval": interval(masked),
        "tokens_per_s": round(tokens / statistics.median(times["ragkit"])),
        "turns": arguments.turns,
        "size": arguments.size,
    }
    print(json.dumps(result))


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", choices=SIZES, default="12m")
    parser.add_argument("--rows", type=int, default=4)
    parser.add_argument("--context-length", type=int, default=512)
    parser.add_argument("--turns", type=int, default=21)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="2 rows of 256, 9 turns")
    parser.add_argument("--memory-of", choices=SIDES, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.rows, arguments.context_length, arguments.turns = 2, 256, 9
    return arguments


def measure_times(arguments: argparse.Namespace) -> dict[str, Any]:
    """CPU seconds of a step, `[turns]` for each side and for ours with documents."""
    ours = make_step("ragkit", arguments)
    works: dict[str, Callable[[], None]] = {
        "ragkit": lambda: ours(None),
        "transformers": lambda: theirs(None),
        "documents": lambda: ours(make_positions(arguments)),
    }
    theirs = make_step("transformers", arguments)
    for work in works.values():
        work()  # the first step allocates
    names = list(works)
    times = np.empty((arguments.turns, len(names)))
    for turn in range(arguments.turns):
        for i in range(len(names)):
            place = (turn + i) % len(names)
            started = time.process_time()
            works[names[place]]()
            times[turn, place] = time.process_time() - started
    return {name: times[:, place] for place, name in enumerate(names)}


def make_step(side: str, arguments: argparse.Namespace) -> Callable[[Tensor | None], None]:
    """A training step on one batch, with positions that restart with each document or without."""
    torch.manual_seed(arguments.seed)
    sizes = {**SIZES[arguments.size], "max_position_embeddings": arguments.context_length}
    kinds: dict[str, Callable[[], PreTrainedModel]] = {
        "ragkit": lambda: Llama3ForCausalLM(Llama3Config(**sizes)),
        "transformers": lambda: LlamaForCausalLM(LlamaConfig(**sizes)),
    }
    model = kinds[side]().train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    shape = (arguments.rows, arguments.context_length)
    ids = torch.randint(0, sizes["vocab_size"], shape)

    def step(position_ids: Tensor | None) -> None:
        model(input_ids=ids, labels=ids, position_ids=position_ids, use_cache=False).loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def make_positions(arguments: argparse.Namespace) -> Tensor:
    """Positions of rows that hold some documents of about equal length, `[rows, seq]`."""
    length = -(-arguments.context_length // NUM_DOCUMENTS)
    return (torch.arange(arguments.context_length) % length).expand(arguments.rows, -1)


def run_for_memory(side: str) -> str:
    command = [sys.executable, __file__, *sys.argv[1:], "--memory-of", side]
    # Freed memory goes back at once, so that the peak is what is needed and not what was kept.
    environment = {**os.environ, "MALLOC_TRIM_THRESHOLD_": "0", "MALLOC_MMAP_THRESHOLD_": "65536"}
    ran = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    return ran.stdout


def measure_memory(side: str, arguments: argparse.Namespace) -> float:
    """MiB at the peak of some steps."""
    torch.set_num_threads(arguments.threads)
    step = make_step(side, arguments)
    for _ in range(STEPS_FOR_MEMORY):
        step(None)
    # Not from getrusage, which in a child counts what its parent held.
    status = Path("/proc/self/status").read_text()
    return next(int(x.split()[1]) for x in status.splitlines() if x.startswith("VmHWM")) / 1024


def interval(ratios: Any) -> list[float]:
    """95 % of the median of `ratios`, by bootstrap."""
    rng = np.random.default_rng(0)
    medians = np.median(rng.choice(ratios, (10_000, len(ratios))), axis=1)
    return [round(float(x), 4) for x in np.quantile(medians, (0.025, 0.975))]


if __name__ == "__main__":
    main()
