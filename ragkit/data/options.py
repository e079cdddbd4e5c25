"""What a reader takes from its input, and what it does with rows that are not right."""

from typing import Literal

from ragkit.config import config
from ragkit.errors import ConfigError


@config
class ReadOptions:
    """How inputs become documents."""

    format: str = "auto"
    """`auto` goes by suffix and first bytes; else one of `ragkit.data.formats.FORMATS`."""
    id_field: str = ""
    """Key or column of the id; empty takes id, _id, docid, doc_id or pid."""
    text_field: str = ""
    """Key or column of the text; empty takes text, contents, content, passage or body."""
    title_field: str = ""
    """Key or column of the title; empty takes title."""
    meta_fields: tuple[str, ...] | None = None
    """Keys or columns kept as metadata; `None` keeps all that are left."""
    header: bool = True
    """Whether the first row of a CSV or TSV file names its columns."""
    on_empty: Literal["skip", "error"] = "skip"
    """What happens to a text in which nothing is visible."""
    on_invalid_utf8: Literal["replace", "skip", "error"] = "replace"
    """What happens to a row or file with bytes that are not UTF-8."""
    max_doc_mb: float = 64
    """Largest text of a document."""
    max_file_mb: float = 256
    """Largest prose file (text, Markdown, HTML, PDF) that is opened."""
    limit: int | None = None
    """Most documents to read; `None` reads all."""

    def __post_init__(self) -> None:
        if self.max_doc_mb <= 0 or self.max_file_mb <= 0:
            raise ConfigError(
                f"max_doc_mb and max_file_mb must be above 0, got {self.max_doc_mb} and "
                f"{self.max_file_mb}: leave them out for 64 and 256"
            )
        if self.limit is not None and self.limit < 0:
            raise ConfigError(
                f"limit must be 0 or more, got {self.limit}: leave it out to read all"
            )

    @property
    def max_doc_bytes(self) -> int:
        """Most UTF-8 bytes of one text."""
        return int(self.max_doc_mb * 1_000_000)

    @property
    def max_file_bytes(self) -> int:
        """Most bytes of one prose file."""
        return int(self.max_file_mb * 1_000_000)
