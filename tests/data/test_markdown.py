import pytest

from ragkit.data import chunk_document, parse_chunker
from ragkit.data.markdown import find_headings, first_heading
from ragkit.types import Document

GUIDE = """---
title: front matter
---
Words before.

# Guide

## Install

Run `pip`.

```sh
# not a heading
pip install ragkit
```

### On GPUs ##

Use the extra.

Usage
-----

Search it.

## Empty at the end
"""


def chunk(text, spec="markdown"):
    return chunk_document(Document("d", text), parse_chunker(spec))


def test_sections_are_passages_that_know_the_headings_above_them():
    passages = chunk(GUIDE)

    assert [passage.meta["headings"] for passage in passages] == [
        [],
        ["Guide", "Install"],
        ["Guide", "Install", "On GPUs"],
        ["Guide", "Usage"],
        ["Guide", "Empty at the end"],
    ]
    assert passages[1].text.startswith("# Guide\n\n## Install\n\nRun")
    assert passages[1].text.endswith("pip install ragkit\n```")
    assert passages[3].text == "Usage\n-----\n\nSearch it."


def test_a_long_section_is_cut_at_paragraphs_and_each_piece_keeps_the_path():
    text = "# A\n\none two three\n\nfour five\n\nsix seven eight nine\n\n## B\n\nten"

    passages = chunk(text, "markdown:6")

    assert [passage.text for passage in passages] == [
        "# A\n\none two three",
        "four five\n\nsix seven eight nine",
        "## B\n\nten",
    ]
    assert [passage.meta["headings"] for passage in passages] == [["A"], ["A"], ["A", "B"]]


def test_a_long_paragraph_is_cut_at_sentences_and_the_heading_stays_with_the_first():
    text = "# A\n\nOne two three. Four five six. Seven."

    assert [passage.text for passage in chunk(text, "markdown:5")] == [
        "# A\n\nOne two three.",
        "Four five six. Seven.",
    ]


def test_fenced_code_is_one_paragraph():
    text = "Intro.\n\n```\na\n\nb\n```\n\n" + "words " * 9

    assert chunk(text, "markdown:9")[0].text == "Intro.\n\n```\na\n\nb\n```"


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("# One", [(1, "One")]),
        ("   ###### Six ###", [(6, "Six")]),
        ("#", [(1, "")]),
        ("## C#", [(2, "C#")]),
        ("#hashtag", []),
        ("    # code", []),
        ("One\n===", [(1, "One")]),
        ("**Two**\n---", [(2, "**Two**")]),
        ("\n---\n", []),
        ("- item\n---", []),
        ("~~~\n# code\n```\n~~~\n# Two", [(1, "Two")]),
        ("````\n```\n# code\n````\n# Two", [(1, "Two")]),
        ("```\n# never closed", []),
        ("---\na: b\n---\n# Two", [(1, "Two")]),
    ],
)
def test_headings_are_those_of_commonmark(line, expected, end):
    text = line.replace("\n", end) + end

    assert [(heading.level, heading.title) for heading in find_headings(text)] == expected


def test_the_first_heading_with_words_is_the_title():
    assert first_heading("text\n\n#\n\n## Here\n\n# Not here") == "Here"
    assert first_heading("none") == ""
