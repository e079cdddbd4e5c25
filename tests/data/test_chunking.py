import re
import resource
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragkit.data import chunk_document, default_chunker, parse_chunker, split_long
from ragkit.data.chunking import RegexChunker, WholeChunker
from ragkit.data.markdown import MarkdownChunker
from ragkit.data.sentences import SentenceChunker
from ragkit.data.tokens import TokenChunker
from ragkit.data.words import WordChunker
from ragkit.errors import ConfigError
from ragkit.types import Document

SPECS = [
    "none",
    "words:5",
    "words:7:2",
    "words:100",
    "tokens:20",
    "tokens:23:6",
    "sentences:8w",
    "markdown:6",
    r"regex:\n\n+",
]
# Pieces that chunkers stumble over: joined emoji, combining marks, scripts without spaces or from
# right to left, both kinds of line ends, fences, headings, abbreviations, very long words.
PIECES = st.sampled_from(
    [
        "word",
        "Dr. No said: e.g. this.",
        "\U0001f468\u200d\U0001f469\u200d\U0001f467",
        "e\u0301a\u0308",
        "\u6f22\u5b57\u3002\u4eee\u540d",
        "\u0645\u0631\u062d\u0628\u0627",
        "\u05e9\u05dc\u05d5\u05dd!",
        "\r\n",
        "\n\n",
        "\r\n\r\n",
        "\n# Heading\n",
        "\nTitle\n---\n",
        "\n```\ncode # no heading\n```\n",
        "\u3000\u00a0 \t",
        "...?!\"')",
        "x" * 1_100,
        "\ufffd",
    ]
)
TEXTS = st.lists(st.one_of(PIECES, st.text(max_size=9)), max_size=60).map(" ".join)


def chunk(text, spec, counter=None):
    return chunk_document(Document("d", text, title="T"), parse_chunker(spec), counter=counter)


@pytest.mark.parametrize("spec", SPECS)
@given(text=TEXTS)
def test_offsets_give_back_the_text(spec, counter, text):
    passages = chunk(text, spec, counter)

    for number, passage in enumerate(passages):
        assert passage.text == text[passage.start : passage.end] == passage.text.strip()
        assert passage.text
        assert passage.chunk == number
    starts = [(passage.start, passage.end) for passage in passages]
    assert starts == sorted(starts)


@pytest.mark.parametrize("spec", [spec for spec in SPECS if not spec.startswith("regex")])
@given(text=TEXTS)
def test_no_character_that_can_be_seen_is_lost(spec, counter, text):
    text = text.replace("\ufffd", "")
    covered = bytearray(len(text))
    for passage in chunk(text, spec, counter):
        covered[passage.start : passage.end] = b"\1" * len(passage.text)

    lost = "".join(char for char, is_in in zip(text, covered, strict=True) if not is_in)

    assert not re.search(r"[^\W_]|[.!?#`]", lost)


@pytest.mark.parametrize("spec", SPECS)
def test_chunking_is_a_pure_function_of_the_text(spec, counter):
    text = "One sentence. " * 30 + "\n\n# Heading\n\nmore words " * 9

    assert chunk(text, spec, counter) == chunk(text, spec, counter)


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("text", ["", " \r\n\t", "\ufffd\ufffd", "\u200b"])
def test_nothing_comes_of_a_text_that_shows_nothing(spec, counter, text):
    assert chunk(text, spec, counter) == []


def test_passages_are_numbered_and_bear_what_the_document_bears():
    document = Document("d", "a b c d e", title="T", meta={"lang": "en"}, source="f:3")

    first, second = chunk_document(document, parse_chunker("words:3"))

    assert (first.id, second.id) == ("d#0", "d#1")
    assert (second.text, second.start, second.end) == ("d e", 6, 9)
    assert (second.doc_id, second.title, second.source) == ("d", "T", "f:3")
    assert second.meta == {"lang": "en"}


def test_a_document_of_one_passage_keeps_its_id():
    [passage] = chunk_document(Document("d", "  a b "), parse_chunker("words:3"))

    assert (passage.id, passage.doc_id, passage.text, passage.start) == ("d", "d", "a b", 2)


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("none", WholeChunker()),
        ("words:100", WordChunker(100)),
        ("words:90:15", WordChunker(90, 15)),
        ("tokens:256:32", TokenChunker(256, 32)),
        ("tokens:128", TokenChunker(128)),
        ("sentences:200w", SentenceChunker(200)),
        ("sentences:70", SentenceChunker(70)),
        ("markdown", MarkdownChunker(200)),
        ("markdown:60", MarkdownChunker(60)),
        ("regex:^Chapter: ", RegexChunker(re.compile("^Chapter: ", re.MULTILINE))),
    ],
)
def test_a_chunker_is_known_by_its_form(spec, expected):
    assert parse_chunker(spec) == expected


@pytest.mark.parametrize(
    "spec",
    [
        "",
        "words",
        "words:",
        "words:-3",
        "words:3x",
        "pages:2",
        "none:1",
        "regex:",
        "regex",
        "\u0661",
    ],
)
def test_an_unknown_form_is_refused_with_the_known_ones(spec):
    with pytest.raises(ConfigError, match=r"write one of none, words:N\[:OVERLAP\], tokens"):
        parse_chunker(spec)


@pytest.mark.parametrize(
    ("spec", "hint"),
    [
        ("words:5:5", "overlap must be smaller than 5"),
        ("tokens:8:9", "overlap must be smaller than 8"),
        ("words:0", "size must be at least 1"),
        ("sentences:0w", "size must be at least 1"),
        ("regex:(", "not a regular expression"),
    ],
)
def test_a_form_that_makes_no_sense_is_refused(spec, hint):
    with pytest.raises(ConfigError, match=hint):
        parse_chunker(spec)


def test_records_stay_whole_and_files_are_cut():
    assert default_chunker(Document("d", "text", kind="record")) == "none"
    assert default_chunker(Document("d", "text", kind="file")) == "tokens:256:32"


def test_a_pattern_separates_and_a_look_ahead_keeps():
    text = "Chapter 1\none\nChapter 2\ntwo"

    dropped = [passage.text for passage in chunk(text, "regex:^Chapter ")]
    kept = [passage.text for passage in chunk(text, "regex:(?=^Chapter)")]

    assert dropped == ["1\none", "2\ntwo"]
    assert kept == ["Chapter 1\none", "Chapter 2\ntwo"]


def test_a_long_record_is_split_to_the_limit(counter):
    document = Document("d", "some words " * 70, title="T", meta={"n": 1})

    passages = split_long(document, counter=counter, limit=19)

    assert " ".join(passage.text for passage in passages) == document.text.strip()
    assert all(counter.count(passage.text, "T") <= 19 for passage in passages)
    assert passages[2].meta == {"n": 1}


@pytest.mark.slow
@pytest.mark.parametrize("spec", ["words:100", "sentences:200w", "markdown", "tokens:31:4"])
@pytest.mark.parametrize(
    "text",
    [
        "a" * 10_000_000,
        "many words " * 900_000,
        "." * 10_000_000,
        "\n \n" * 3_000_000,
        "# " * 4_000_000,
    ],
    ids=["letter", "words", "dots", "lines", "hashes"],
)
def test_ten_megabytes_take_seconds_and_little_memory(spec, counter, text):
    before_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started_s = time.process_time()

    passages = chunk(text, spec, counter)

    assert time.process_time() - started_s < 60
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kb < 300_000
    assert max((len(passage.text) for passage in passages), default=0) < 20_000
