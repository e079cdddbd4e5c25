"""The decode loop: logits, a choice, the next logits."""

from collections.abc import Iterator, Sequence

import torch

from ragkit.decoding.prefix import Prefix
from ragkit.decoding.sampling import NO_TOKEN, Chooser, token_log_probs
from ragkit.decoding.stopping import Continuation
from ragkit.errors import CheckpointError


def decode(
    prefix: Prefix, *, chooser: Chooser, continuations: Sequence[Continuation]
) -> Iterator[list[int]]:
    """After each step, the numbers of the rows that it made longer.

    A row leaves the batch, prefix and chooser when it is finished, and costs nothing from there on.

    Raises:
        CheckpointError: The logits of a row are not numbers.
    """
    running = list(range(len(continuations)))
    logits = prefix.read_prompts()  # [batch, vocab]
    while running:
        tokens = chooser.choose(logits)  # [batch]
        log_probs = token_log_probs(logits, tokens)  # [batch]
        # The one place where a step waits for the device.
        chosen = zip(running, tokens.tolist(), log_probs.tolist(), strict=True)
        for row, token, log_prob in chosen:
            if token == NO_TOKEN:
                raise _no_token(row, position=len(continuations[row].tokens))
            continuations[row].put(token, log_prob)
        yield running
        places = [i for i, row in enumerate(running) if continuations[row].finish_reason is None]
        if not places:
            return
        if len(places) < len(running):
            running = [running[place] for place in places]
            kept = torch.tensor(places, device=tokens.device)
            prefix.keep(kept)
            chooser.keep(kept)
            tokens = tokens[kept]
        logits = prefix.append(tokens)


def _no_token(row: int, *, position: int) -> CheckpointError:
    return CheckpointError(
        f"the model gives no usable logits for token {position} of row {row}: NaN, or every token "
        "is forbidden; load it in float32 or bfloat16 if it is in float16, or check its weights"
    )
