import logging

import pytest

from ragkit.encoders.prefixes import choose_prefixes


@pytest.mark.parametrize(
    ("name", "query", "passage"),
    [
        ("multilingual-e5-small", "query: ", "passage: "),
        ("e5_base_v2", "query: ", "passage: "),
        ("multilingual-e5-large-instruct", "Instruct: Given", ""),
        ("bge-small-en-v1.5", "Represent this sentence", ""),
        ("bge-m3", "", ""),
        ("nomic-embed-text-v1.5", "search_query: ", "search_document: "),
        ("snowflake-arctic-embed-m", "Represent this sentence", ""),
        ("snowflake-arctic-embed-l-v2.0", "query: ", ""),
        ("Qwen3-Embedding-0.6B", "Instruct: Given", ""),
        ("gte-base-en-v1.5", "", ""),
        ("all-MiniLM-L6-v2", "", ""),
    ],
)
def test_a_known_name_brings_its_prefixes(name, query, passage):
    prefixes = choose_prefixes([name], {})

    assert prefixes.query.startswith(query)
    assert bool(prefixes.query) == bool(query)
    assert prefixes.of("passage") == prefixes.passage == passage
    assert prefixes.source == ("table" if query else "none")


def test_the_bge_prompt_for_chinese_is_the_published_one():
    prefixes = choose_prefixes(["bge-large-zh-v1.5"], {})

    assert prefixes.query.encode("utf-8").hex().startswith("e4b8bae8bf99")
    assert len(prefixes.query) == 19


def test_prompts_of_the_model_win_over_its_name():
    prefixes = choose_prefixes(["e5-small"], {"query": "ask: ", "corpus": "text: "})

    assert (prefixes.query, prefixes.passage, prefixes.source) == ("ask: ", "text: ", "model")


def test_empty_prompts_count_as_none():
    assert choose_prefixes(["e5-small"], {"query": "", "document": ""}).source == "table"


def test_arguments_win_one_by_one():
    prefixes = choose_prefixes(["e5-small"], {}, query="Q ")

    assert (prefixes.query, prefixes.passage, prefixes.source) == ("Q ", "passage: ", "argument")


def test_switching_a_usual_prefix_off_is_a_warning(caplog):
    with caplog.at_level(logging.WARNING):
        choose_prefixes(["e5-small"], {}, query="", passage="")

    assert "without a query prefix but was trained with 'query: '" in caplog.text
    assert "without a passage prefix" in caplog.text


def test_switching_nothing_off_is_no_warning(caplog):
    with caplog.at_level(logging.WARNING):
        choose_prefixes(["all-MiniLM-L6-v2"], {}, query="", passage="")
        choose_prefixes(["bge-small-en"], {}, passage="")

    assert not caplog.records
