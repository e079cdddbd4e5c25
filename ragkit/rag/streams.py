"""An answer piece by piece."""

from collections.abc import Iterable, Iterator

from ragkit.decoding.api import TextStream
from ragkit.errors import ConfigError
from ragkit.rag.answers import Answer, CitedPassage
from ragkit.rag.ensembles import Ensemble
from ragkit.rag.modes import AnswerWriter, Draft, Mode


class AnswerStream:
    """The text of one answer, piece by piece, and then the answer."""

    def __init__(self, writer: AnswerWriter, ensemble: Ensemble, *, mode: Mode) -> None:
        self._writer, self._ensemble, self._mode = writer, ensemble, mode
        self._answer: Answer | None = None

    @property
    def passages(self) -> tuple[CitedPassage, ...]:
        """What the prompts show; there before the first piece."""
        return self._ensemble.passages

    @property
    def answer(self) -> Answer:
        """All of it, once the pieces have been read.

        Raises:
            ConfigError: They have not.
        """
        if self._answer is None:
            raise ConfigError("the answer is not finished: read the pieces to their end first")
        return self._answer

    def __iter__(self) -> Iterator[str]:
        """The pieces, which join to the text of the answer; generates anew when asked again."""
        if self._writer.is_by_token:
            pieces = TextStream(self._writer.open_generator(), self._ensemble.request)
            yield from _strip(pieces)
            draft = self._writer.draft(pieces.generation)
        else:
            [draft] = self._writer.write([self._ensemble.request], batch_size=1)
            yield draft.text
        self._answer = cite(self._ensemble, draft, mode=self._mode)


def cite(ensemble: Ensemble, draft: Draft, *, mode: Mode) -> Answer:
    """What was generated, as the answer to its question."""
    return Answer(
        question=ensemble.question,
        text=draft.text,
        passages=ensemble.passages,
        mode=mode,
        log_score=draft.log_score,
        finish_reason=draft.generation.finish_reason,
        num_prompt_tokens=len(ensemble.request.tokens),
        num_tokens=draft.generation.num_tokens,
    )


def _strip(pieces: Iterable[str]) -> Iterator[str]:
    """The pieces without spaces before the first and after the last."""
    text, num_shown = "", 0
    for piece in pieces:
        text += piece
        settled = text.strip()
        if len(settled) > num_shown:
            yield settled[num_shown:]
            num_shown = len(settled)
