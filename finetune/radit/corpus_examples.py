"""Self-supervised examples: the start of a passage asks, its end is the target.

After Lin et al. 2023 (arXiv:2310.01352, section 3.1): the first 50 tokens and the last 50.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from transformers import PreTrainedTokenizerBase

from ragkit.console import progress
from ragkit.data.text import clean, is_blank
from ragkit.errors import ConfigError
from ragkit.finetune.radit.records import InstructionRecord
from ragkit.index.reader import Index

BATCH_ROWS = 1_024


@dataclass(frozen=True, slots=True)
class CorpusExamples:
    """Records cut from passages.

    Args:
        num_read: Passages that were looked at.
        num_short: How many of those were too short, or blank at an end.
    """

    records: list[InstructionRecord]
    num_read: int
    num_short: int


def corpus_examples(
    index: Index,
    tokenizer: PreTrainedTokenizerBase,
    *,
    num_examples: int,
    seed: int,
    num_query_tokens: int = 50,
    num_target_tokens: int = 50,
) -> CorpusExamples:
    """Records of passages drawn at random, at most `num_examples`; fewer if too few are long.

    A record keeps the id of its passage in `doc_id`, so that retrieval can leave that one out. The
    texts are cut from the passage itself, at whole words, and may so lose a token or two.

    Args:
        tokenizer: Counts the tokens; a fast one.

    Raises:
        ConfigError: A number is below 1, or the tokenizer is a slow one.
    """
    numbers = (num_examples, num_query_tokens, num_target_tokens)
    if min(numbers) < 1:
        raise ConfigError(
            "num_examples, num_query_tokens and num_target_tokens must be 1 or more, got "
            f"{', '.join(map(str, numbers))}"
        )
    if not tokenizer.is_fast:
        raise ConfigError(
            f"{type(tokenizer).__name__} does not say where a token stands in the text: use a fast "
            "tokenizer"
        )
    records: list[InstructionRecord] = []
    num_read = 0
    with progress("cut passages", total=num_examples) as bar:
        for name, text, spans in _tokenized(index, tokenizer, seed=seed):
            num_read += 1
            if len(spans) < num_query_tokens + num_target_tokens:
                continue
            query = _head(text, spans[num_query_tokens - 1][1])
            target = _tail(text, spans[-num_target_tokens][0])
            if is_blank(query) or is_blank(target):
                continue
            records.append(
                InstructionRecord(f"corpus:{name}", "corpus", query, (target,), doc_id=name)
            )
            bar.advance()
            if len(records) == num_examples:
                break
    return CorpusExamples(records, num_read, num_read - len(records))


def _head(text: str, end: int) -> str:
    """`text[:end]` without the word that it ends within."""
    head = text[:end].strip()
    if not _is_within_word(text, end):
        return head
    whole = head.rsplit(maxsplit=1)[0]
    return whole if _is_most(whole, head) else head


def _tail(text: str, start: int) -> str:
    """`text[start:]` without the word that it starts within, since a target follows a space."""
    tail = text[start:].strip()
    if not _is_within_word(text, start):
        return tail
    whole = tail.split(maxsplit=1)[-1]
    return whole if _is_most(whole, tail) else tail


def _is_within_word(text: str, place: int) -> bool:
    around = text[place - 1 : place + 1]
    return len(around) == 2 and not any(map(str.isspace, around))


def _is_most(part: str, whole: str) -> bool:
    """Whether little is lost; scripts without spaces are cut anywhere."""
    return 2 * len(part) > len(whole)


def _tokenized(
    index: Index, tokenizer: PreTrainedTokenizerBase, *, seed: int
) -> Iterator[tuple[str, str, Sequence[tuple[int, int]]]]:
    """Id, text and the places of the tokens in it of each passage, in random order."""
    order = np.random.default_rng(seed).permutation(len(index))
    for start in range(0, len(order), BATCH_ROWS):
        rows = order[start : start + BATCH_ROWS].tolist()
        texts = [clean(text)[0] for text in index.values("text", rows)]
        encoded = tokenizer(
            texts, add_special_tokens=False, split_special_tokens=True, return_offsets_mapping=True
        )
        yield from zip(index.values("id", rows), texts, encoded["offset_mapping"], strict=True)
