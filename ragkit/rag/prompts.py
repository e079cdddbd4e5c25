"""Prompts as token ids: demonstrations, one passage, and the question."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from transformers import PreTrainedTokenizerBase

from ragkit.data.text import clean
from ragkit.errors import ConfigError
from ragkit.rag.template import PromptTemplate

Ids = tuple[int, ...]

NUM_REMEMBERED = 1 << 14
"""Texts whose tokens are kept: passages come back for many questions."""

MIN_CHUNK_TOKENS = 64
"""So much of a passage stays until the last demonstration has gone."""


@dataclass(frozen=True, slots=True)
class Demonstration:
    """A question with its answer, shown before the one that is asked.

    Args:
        passage: What stands before the question, as `format_passage` writes it; empty for none.
    """

    query: str
    answer: str
    passage: str = ""


@dataclass(frozen=True, slots=True)
class Prompt:
    """The parts of a prompt, each tokenised alone, so that equal texts have equal tokens.

    Args:
        prefix: BOS, where the tokenizer has one, and the demonstrations.
        background: The block of one passage; empty without one.
        question: The question with its markers, up to the marker of the answer.
    """

    prefix: Ids
    background: Ids
    question: Ids

    @property
    def tokens(self) -> Ids:
        """All of it."""
        return self.prefix + self.background + self.question


@dataclass(frozen=True, slots=True)
class _Block:
    """Text that may be cut between two markers; without text there are no markers either."""

    start: Ids = ()
    body: Ids = ()
    end: Ids = ()

    def __len__(self) -> int:
        return self.num_fixed + len(self.body)

    @property
    def num_fixed(self) -> int:
        """Tokens of the markers."""
        return len(self.start) + len(self.end)

    @property
    def ids(self) -> Ids:
        """All tokens."""
        return self.start + self.body + self.end

    def keep_start(self, length: int) -> "_Block":
        """The first tokens of the text, so that the block has at most `length`."""
        return self._with(self.body[: max(0, length - self.num_fixed)])

    def keep_end(self, length: int) -> "_Block":
        """The last tokens of the text, so that the block has at most `length`."""
        return self._with(self.body[max(0, len(self) - length) :])

    def _with(self, body: Ids) -> "_Block":
        return _Block(self.start, body, self.end) if body else _Block()


class PromptBuilder:
    """Makes prompts that fit the model, and counts what it had to cut.

    Where a prompt is too long, first the passage loses its end, but not its first 64 tokens, then
    the oldest demonstrations go, then the rest of the passage, and at last the question loses its
    beginning; markers and answers stay.

    Args:
        max_length: Tokens that the model reads, answer included.
        max_chunk_tokens: Most tokens of a passage, markers not counted.

    Raises:
        ConfigError: A length is below 1.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        *,
        template: PromptTemplate = PromptTemplate(),  # noqa: B008 - frozen
        max_length: int,
        max_chunk_tokens: int | None = None,
    ) -> None:
        if max_length < 1 or (max_chunk_tokens is not None and max_chunk_tokens < 1):
            raise ConfigError(
                "max_length and max_chunk_tokens must be 1 or more, got "
                f"{max_length} and {max_chunk_tokens}"
            )
        self.template, self.max_length = template, max_length
        self.cuts: Counter[str] = Counter()
        """How many `passages`, `demonstrations` and `questions` lost something for want of room,
        and how many passages were `chunks` too long by themselves."""
        self._tokenizer, self._max_chunk_tokens = tokenizer, max_chunk_tokens
        # Some tokenizers have a BOS token that texts do not begin with.
        self._bos: Ids = tuple(
            token for token in tokenizer("").input_ids if token == tokenizer.bos_token_id
        )
        self._encode = lru_cache(NUM_REMEMBERED)(self._encode_anew)

    def build(
        self,
        query: str,
        passage: str | None,
        *,
        reserve: int,
        demonstrations: Sequence[Demonstration] = (),
        markers: tuple[int, int] = (0, 0),
    ) -> Prompt:
        """The prompt of one passage, at most `max_length - reserve` tokens.

        Args:
            passage: As `format_passage` writes it; `None`, or a blank text, for no background.
            reserve: Tokens that are kept free for the answer.
            markers: Which question marker and which answer marker of the template.

        Raises:
            ConfigError: There is no room for the markers and one token of the question.
        """
        question = self._question(query, markers)
        shown = [self._show(demonstration) for demonstration in demonstrations]
        room = self.max_length - reserve - len(self._bos)

        whole = self._background(passage)
        background = whole.keep_start(
            max(room - len(question) - _total(shown), MIN_CHUNK_TOKENS + whole.num_fixed)
        )
        shown = self._drop_oldest(shown, room - len(question) - len(background))
        background = whole.keep_start(room - len(question) - _total(shown))
        if len(background) < len(whole):
            self.cuts["passages"] += 1
        question = self._fit_question(question, room - len(background) - _total(shown))
        prefix = self._bos + tuple(token for ids in shown for token in ids)
        return Prompt(prefix=prefix, background=background.ids, question=question.ids)

    def encode_target(self, answer: str, *, eos: bool) -> Ids:
        """Token ids of an answer as it follows a prompt.

        Args:
            eos: Whether the token that ends a text follows.

        Raises:
            ConfigError: There is no such token.
        """
        ids = self._encode(f" {answer.strip()}")
        if not eos:
            return ids
        end = self._tokenizer.eos_token_id
        if end is None:
            raise ConfigError("the tokenizer has no EOS token to end answers with: set eos_token")
        return (*ids, end)

    def _background(self, passage: str | None) -> "_Block":
        if passage is None or not passage.strip():
            return _Block()
        start, space = _split_space(self.template.background)
        body = self._encode(space + passage.strip())
        if self._max_chunk_tokens is not None and len(body) > self._max_chunk_tokens:
            self.cuts["chunks"] += 1
            body = body[: self._max_chunk_tokens]
        return _Block(self._encode(start), body, self._encode(self.template.background_end))

    def _question(self, query: str, markers: tuple[int, int]) -> _Block:
        template = self.template
        start, space = _split_space(template.question_markers[markers[0]])
        end = template.question_end + template.answer_markers[markers[1]]
        return _Block(self._encode(start), self._encode(space + query.strip()), self._encode(end))

    def _show(self, demonstration: Demonstration) -> Ids:
        background = self._background(demonstration.passage)
        question = self._question(demonstration.query, (0, 0))
        answer = self.encode_target(demonstration.answer, eos=False)
        end = self._encode(self.template.background_end)
        return background.ids + question.ids + answer + end

    def _drop_oldest(self, shown: list[Ids], spare: int) -> list[Ids]:
        while shown and _total(shown) > spare:
            self.cuts["demonstrations"] += 1
            shown = shown[1:]
        return shown

    def _fit_question(self, question: _Block, spare: int) -> _Block:
        if len(question) <= spare:
            return question
        self.cuts["questions"] += 1
        cut = question.keep_end(spare)
        if not cut.body:
            raise ConfigError(
                f"a prompt of at most {self.max_length} tokens has no room for a question beside "
                "its markers and the answer: raise max_length or lower max_new_tokens"
            )
        return cut

    def _encode_anew(self, text: str) -> Ids:
        # A passage that spells a special token must not end the prompt.
        ids = self._tokenizer(
            clean(text)[0], add_special_tokens=False, split_special_tokens=True
        ).input_ids
        return tuple(ids)


def _total(parts: Sequence[Ids]) -> int:
    return sum(map(len, parts))


def _split_space(marker: str) -> tuple[str, str]:
    """A marker and the white space at its end, which tokenizers join to the word that follows."""
    bare = marker.rstrip(" ")
    return bare, marker[len(bare) :]
