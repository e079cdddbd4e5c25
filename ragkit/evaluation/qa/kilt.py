"""KILT's metrics of answers and of the pages that they rest on (Petroni et al., arXiv:2009.02252).

As the paper's section 5 and its evaluation program define them: accuracy is a match of the very
text, an empty answer scores 0, and KILT-X counts X only where R-precision is 1. Pages count once,
at the best rank of a passage of theirs.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ragkit.errors import DataError
from ragkit.evaluation.qa.metrics import exact_match, token_f1
from ragkit.evaluation.qa.predictions import Prediction
from ragkit.evaluation.qa.questions import read_objects
from ragkit.evaluation.qa.report import QaReport, RunFacts, make_report
from ragkit.evaluation.qa.rouge import rouge_l_of_sentences

RULES = "kilt"
RECALL_DEPTH = 5


@dataclass(frozen=True, slots=True)
class KiltItem:
    """One row of a KILT data set.

    Args:
        text: The row's `input`.
        answers: All that are right, without white space at their ends.
        evidence: Pages that together support an answer: one set per way to support one. None if
            the row has no provenance.
    """

    id: str
    text: str
    answers: tuple[str, ...]
    evidence: tuple[frozenset[str], ...]


def read_kilt(path: Path) -> list[KiltItem]:
    """The rows of a KILT file.

    Raises:
        DataError: The file cannot be read or holds no row, a row has another form or an id that
            came before, or has no answer, as in the test sets, whose labels are hidden.
    """
    items: dict[str, KiltItem] = {}
    for number, row in read_objects(path):
        item = _item(row, place=f"{path}:{number}")
        if item.id in items:
            raise DataError(f"{path}:{number}: id {item.id!r} came before: make the ids unique")
        items[item.id] = item
    if not items:
        raise DataError(f"{path} holds no row: expected JSON lines with id, input and output")
    return list(items.values())


def evaluate_kilt(
    items: Sequence[KiltItem],
    answers: Sequence[str],
    retrieved_pages: Sequence[Sequence[str]],
    *,
    facts: RunFacts | None = None,
    seed: int = 0,
) -> QaReport:
    """KILT's metrics of `answers` and of the pages retrieved for them.

    A row without provenance scores 0 for its pages, as in KILT's own program, and is counted in
    the report as `without_provenance`.

    Args:
        answers: One per row.
        retrieved_pages: `wikipedia_id` of each retrieved passage, best first.
        seed: Decides the draws of the intervals.

    Raises:
        DataError: There is no row, or not one answer and list of pages for each.
    """
    if not len(items) == len(answers) == len(retrieved_pages):
        raise DataError(
            f"expected one answer and one list of pages per row, found {len(items)} rows, "
            f"{len(answers)} answers and {len(retrieved_pages)} lists: keep them in step"
        )
    predictions = [
        Prediction(item.id, answer, tuple(pages), score_item(item, answer, pages))
        for item, answer, pages in zip(items, answers, retrieved_pages, strict=True)
    ]
    counts = {
        "empty_answers": sum(not answer.strip() for answer in answers),
        "without_provenance": sum(not item.evidence for item in items),
    }
    return make_report(predictions, rules=RULES, counts=counts, facts=facts, seed=seed)


def score_item(item: KiltItem, answer: str, pages: Iterable[str]) -> dict[str, float]:
    """All of KILT's metrics of one row, by name."""
    ranked = list(dict.fromkeys(page.strip() for page in pages))
    precision = r_precision(ranked, item.evidence)
    scores = _score_answer(answer.strip(), item.answers)
    return {
        **scores,
        **{f"kilt_{name}": score * (precision == 1) for name, score in scores.items()},
        "r_precision": precision,
        f"recall@{RECALL_DEPTH}": evidence_recall(ranked, item.evidence, k=RECALL_DEPTH),
    }


def r_precision(pages: Sequence[str], evidence: Iterable[frozenset[str]]) -> float:
    """Share of the first R pages that are in an evidence set of R pages; the best set counts.

    Args:
        pages: Best first, each once.
    """
    return max(
        (len(wanted.intersection(pages[: len(wanted)])) / len(wanted) for wanted in evidence),
        default=0.0,
    )


def evidence_recall(pages: Sequence[str], evidence: Iterable[frozenset[str]], *, k: int) -> float:
    """Share of the distinct evidence sets that are complete within the first `k` ranks.

    The pages of one set share a rank, that of the last of them to be found; any other page has a
    rank of its own.

    Args:
        pages: Best first, each once.
    """
    missing = [set(wanted) for wanted in dict.fromkeys(evidence)]
    ranks: list[int | None] = []  # the set that a rank belongs to, or none
    for page in pages:
        touched = [place for place, wanted in enumerate(missing) if page in wanted]
        for place in touched:
            missing[place].remove(page)
            if place in ranks:
                ranks.remove(place)
            ranks.append(place)
        if not touched:
            ranks.append(None)
    complete = sum(place is not None and not missing[place] for place in ranks[:k])
    return complete / len(missing) if missing else 0.0


def _score_answer(answer: str, golds: Sequence[str]) -> dict[str, float]:
    if not answer:
        return {"accuracy": 0.0, "em": 0.0, "f1": 0.0, "rouge_l": 0.0}
    return {
        "accuracy": float(answer in golds),
        "em": exact_match(answer, golds),
        "f1": token_f1(answer, golds),
        "rouge_l": rouge_l_of_sentences(answer, golds),
    }


def _item(row: Mapping[str, Any], *, place: str) -> KiltItem:
    outputs = row.get("output") or []
    if not isinstance(row.get("id"), str | int) or not isinstance(row.get("input"), str):
        raise DataError(f"{place}: expected `id`, `input` and `output`, found {', '.join(row)}")
    if not isinstance(outputs, list) or not all(isinstance(output, dict) for output in outputs):
        raise DataError(f"{place}: expected a list of objects in `output`, found {outputs!r}")
    answers = [str(output.get("answer") or "").strip() for output in outputs]
    if not any(answers):
        raise DataError(
            f"{place}: row {row['id']!r} has no answer: the labels of KILT's test sets are hidden "
            "behind its submission server: evaluate on a dev set"
        )
    evidence = [_pages(output, place=place) for output in outputs]
    return KiltItem(
        id=str(row["id"]),
        text=row["input"],
        answers=tuple(dict.fromkeys(filter(None, answers))),
        evidence=tuple(dict.fromkeys(filter(None, evidence))),
    )


def _pages(output: Mapping[str, Any], *, place: str) -> frozenset[str]:
    provenance = output.get("provenance") or []
    if not isinstance(provenance, list) or not all(isinstance(part, dict) for part in provenance):
        raise DataError(f"{place}: expected a list of objects in `provenance`")
    pages = (part.get("wikipedia_id") for part in provenance)
    return frozenset(str(page).strip() for page in pages if page is not None)
