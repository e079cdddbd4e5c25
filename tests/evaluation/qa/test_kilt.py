import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragkit.errors import DataError
from ragkit.evaluation.qa.kilt import (
    KiltItem,
    evaluate_kilt,
    evidence_recall,
    r_precision,
    read_kilt,
    score_item,
)

PAGES = st.lists(st.sampled_from("abcdefg"), max_size=7, unique=True)
EVIDENCE = st.lists(
    st.frozensets(st.sampled_from("abcdefg"), min_size=1, max_size=3), min_size=1, max_size=3
)
TWO_HOPS = frozenset({"7", "9"})
ITEM = KiltItem("k1", "who?", ("The Beatles", "Fab Four"), (frozenset({"3"}), TWO_HOPS))


def row(**changed):
    output = [{"answer": " Paris ", "provenance": [{"wikipedia_id": "12"}]}]
    return {"id": "k1", "input": "capital?", "output": output, **changed}


def written(tmp_path, *rows):
    path = tmp_path / "kilt.jsonl"
    path.write_text("\n".join(json.dumps(each) for each in rows))
    return path


def test_accuracy_takes_the_very_text_and_em_the_normal_form():
    scores = score_item(ITEM, " the beatles ", ["3"])

    assert (scores["accuracy"], scores["em"], scores["f1"]) == (0, 1, 1)
    assert scores["rouge_l"] == 0
    assert score_item(ITEM, " The Beatles ", ["3"])["accuracy"] == 1


@pytest.mark.parametrize(
    ("pages", "counts"),
    [
        (["3"], True),
        (["3", "8"], True),
        (["8", "3"], False),  # the first page is another one
        (["9", "7"], True),  # both hops, in any order
        (["9", "9", " 9", "7"], True),  # passages of one page are one page
        (["9", "8", "7"], False),
        ([], False),
    ],
)
def test_an_answer_counts_only_on_the_right_pages(pages, counts):
    scores = score_item(ITEM, "The Beatles", pages)

    assert scores["em"] == scores["accuracy"] == scores["rouge_l"] == 1
    for name in ("accuracy", "em", "f1", "rouge_l"):
        assert scores[f"kilt_{name}"] == counts


def test_an_empty_answer_scores_zero_but_its_pages_count():
    # Of an answer that is an article SQuAD's normal form leaves nothing.
    scores = score_item(KiltItem("k", "grade?", ("A",), (frozenset({"3"}),)), " ", ["3"])

    assert scores["em"] == scores["kilt_em"] == 0
    assert scores["r_precision"] == 1


def test_a_row_without_provenance_scores_zero_and_is_counted():
    items = [ITEM, KiltItem("k2", "where?", ("Rome",), ())]

    report = evaluate_kilt(items, ["Fab Four", "Rome"], [["3"], ["3"]])

    means = {name: estimate.mean for name, estimate in report.metrics.items()}
    assert (means["em"], means["kilt_em"], means["r_precision"]) == (1, 0.5, 0.5)
    assert report.counts == {"questions": 2, "empty_answers": 0, "without_provenance": 1}
    assert report.rules == "kilt"


@given(pages=PAGES, evidence=EVIDENCE)
def test_r_precision_is_one_exactly_where_a_set_leads_the_ranking(pages, evidence):
    leads = any({*pages[: len(wanted)]} == wanted for wanted in evidence)

    assert (r_precision(pages, evidence) == 1) == leads


@given(pages=PAGES, evidence=EVIDENCE, k=st.integers(1, 7))
def test_single_pages_are_recalled_as_anywhere_else(pages, evidence, k):
    single = [frozenset({page}) for wanted in evidence for page in wanted]

    # Pages that stand for one set each: the share of the sets that are among the first.
    expected = len({*pages[:k]} & {page for [page] in single}) / len({*single})
    assert evidence_recall(pages, single, k=k) == expected


@given(pages=PAGES, evidence=EVIDENCE)
def test_a_deep_recall_is_the_share_of_complete_sets(pages, evidence):
    complete = sum(wanted <= {*pages} for wanted in {*evidence})

    assert evidence_recall(pages, evidence, k=99) == complete / len({*evidence})


def test_the_pages_of_a_set_share_the_rank_of_the_last():
    evidence = [frozenset("ab"), frozenset("c")]

    assert evidence_recall([*"axcb"], evidence, k=2) == 0.5  # x, c, then a and b
    assert evidence_recall([*"axcb"], evidence, k=3) == 1
    assert evidence_recall([*"abc"], evidence, k=1) == 0.5


def test_no_evidence_recalls_nothing():
    assert evidence_recall(["a"], [], k=5) == 0
    assert r_precision(["a"], []) == 0


def test_rows_are_read_with_all_their_evidence(tmp_path):
    output = [
        {"answer": "Paris", "provenance": [{"wikipedia_id": 12}, {"wikipedia_id": "7 "}]},
        {"answer": "paris"},
        {"provenance": [{"wikipedia_id": "12"}, {"title": "no page"}]},
        {"answer": "Paris ", "provenance": []},
    ]

    [item] = read_kilt(written(tmp_path, row(output=output)))

    assert item == KiltItem(
        "k1", "capital?", ("Paris", "paris"), (frozenset({"12", "7"}), frozenset({"12"}))
    )


@pytest.mark.parametrize(
    ("rows", "hint"),
    [
        ([{"id": "k1", "input": "capital?"}], "hidden behind its submission server"),
        ([row(output=[])], "evaluate on a dev set"),
        ([row(output=[{"answer": " "}])], "has no answer"),
        ([row(), row()], ":2: id 'k1' came before"),
        ([row(input=None)], "expected `id`, `input` and `output`"),
        ([row(output=["Paris"])], "list of objects in `output`"),
        ([row(output=[{"answer": "x", "provenance": ["12"]}])], "objects in `provenance`"),
        ([], "holds no row"),
    ],
)
def test_what_cannot_be_scored_is_refused(tmp_path, rows, hint):
    with pytest.raises(DataError, match=hint):
        read_kilt(written(tmp_path, *rows))


def test_what_is_out_of_step_is_refused():
    with pytest.raises(DataError, match="keep them in step"):
        evaluate_kilt([ITEM], ["x"], [])
