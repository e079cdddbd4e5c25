"""Rankings in the format that trec_eval and its kin read."""

from collections.abc import Mapping
from pathlib import Path

from ragkit.errors import DataError, StorageError
from ragkit.evaluation.retrieval import Ranking


def write_run(path: Path, rankings: Mapping[str, Ranking], *, tag: str = "ragkit") -> None:
    """Write one line `query Q0 document rank score tag` per document to `path`.

    Args:
        rankings: Scored documents by query id, best first.

    Raises:
        DataError: An id holds white space, which the format cannot express.
        StorageError: The file cannot be written.
    """
    lines: list[str] = []
    for query_id, ranking in rankings.items():
        for rank, (doc_id, score) in enumerate(ranking, start=1):
            if len([*query_id.split(), *doc_id.split()]) != 2:
                raise DataError(
                    f"a TREC run separates columns by spaces, found query {query_id!r} with "
                    f"document {doc_id!r}: rename the ids, or use the JSON output"
                )
            lines.append(f"{query_id} Q0 {doc_id} {rank} {score!r} {tag}\n")
    try:
        path.write_text("".join(lines), encoding="utf-8")
    except OSError as error:
        raise StorageError(f"{path} cannot be written: {error.strerror}") from error
