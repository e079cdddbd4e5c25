"""How a passage, a question and an answer are written into a prompt (arXiv:2310.01352, App. C)."""

import xxhash

from ragkit.config import adapter, config
from ragkit.errors import ConfigError


@config
class PromptTemplate:
    """The fixed text around the parts of a prompt.

    Where there are several markers, fine-tuning draws one for each example, so that the model does
    not depend on one; the first of them is used everywhere else.
    """

    background: str = "Background: "
    """Stands before a passage."""
    background_end: str = "\n\n"
    """Stands after it, and after each demonstration."""
    question_markers: tuple[str, ...] = ("Q: ", "Question: ", "")
    question_end: str = "\n"
    answer_markers: tuple[str, ...] = ("A:", "Answer:")
    """The answer follows after a space."""
    with_title: bool = True
    """Whether a passage begins with the title of its document, on a line of its own."""

    def __post_init__(self) -> None:
        for name in ("question_markers", "answer_markers"):
            if not getattr(self, name):
                raise ConfigError(f"{name} needs at least one marker, which may be empty")
        if self.answer_markers != tuple(marker.rstrip() for marker in self.answer_markers):
            raise ConfigError(
                f"an answer marker must not end with white space, which belongs to the answer, got "
                f"{self.answer_markers!r}: leave it out"
            )

    def fingerprint(self) -> str:
        """A hash that differs for templates that differ."""
        return xxhash.xxh3_128_hexdigest(adapter(PromptTemplate).dump_json(self))


def format_passage(title: str, text: str, *, template: PromptTemplate) -> str:
    """A passage as it stands in a prompt."""
    return f"{title}\n{text}" if template.with_title and title else text
