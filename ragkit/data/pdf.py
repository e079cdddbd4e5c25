"""The text of PDF files; imported late, as it needs pypdf."""

import io
import struct
import zlib

from pypdf import PdfReader
from pypdf.errors import DependencyError, PyPdfError

from ragkit.data.markup import Prose, UnreadableFileError

# pypdf lets these errors of its parser through as they are.
_FAULTS: tuple[type[Exception], ...] = (
    PyPdfError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    ArithmeticError,
    AssertionError,
    RecursionError,
    NotImplementedError,
    OSError,
    struct.error,
    zlib.error,
)


def read_pdf(data: bytes) -> Prose:
    """The text of all pages, an empty line between two.

    Raises:
        UnreadableFileError: The file is broken or needs a password.
    """
    try:
        reader = PdfReader(io.BytesIO(data))
        if reader.is_encrypted and not reader.decrypt(""):
            raise UnreadableFileError("the PDF needs a password: decrypt it first")
        pages = [page.extract_text().strip() for page in reader.pages]
        title = str((reader.metadata and reader.metadata.title) or "")
    except DependencyError as error:
        raise UnreadableFileError(f"the PDF is encrypted: {error}") from error
    except _FAULTS as error:
        raise UnreadableFileError(f"broken PDF: {error}") from error
    return Prose("\n\n".join(page for page in pages if page), title=" ".join(title.split()))
