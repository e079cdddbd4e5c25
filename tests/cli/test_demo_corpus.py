import os
from collections import Counter
from pathlib import Path

import pytest

from ragkit.cli.demo_corpus import MIN_WORDS, QUESTIONS, stdlib_documents

LONG = "says more than five words here"


def write(root, name, source):
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(source, encoding="utf-8")


def texts_by_id(root):
    return {document.id: document.text for document in stdlib_documents(root)}


@pytest.fixture(scope="module")
def library():
    return list(stdlib_documents())


def test_every_machine_has_some_thousand_documents(library):
    assert len(library) > 3000


def test_ids_and_texts_are_unique_and_long_enough(library):
    assert Counter(document.id for document in library).most_common(1)[0][1] == 1
    assert Counter(document.text for document in library).most_common(1)[0][1] == 1
    assert min(len(document.text.split()) for document in library) >= MIN_WORDS


@pytest.mark.parametrize(("question", "answer"), QUESTIONS)
def test_the_answer_is_there_and_the_question_does_not_quote_it(library, question, answer):
    [text] = [document.text for document in library if document.id == answer]

    words = question.lower().strip("?").split()
    runs = [" ".join(words[i : i + 3]) for i in range(len(words) - 2)]
    assert not [run for run in runs if run in " ".join(text.lower().split())]
    assert not set(answer.lower().replace("_", ".").split(".")) & set(words)


def test_a_document_is_named_by_what_it_describes(tmp_path):
    write(
        tmp_path,
        "tools/hammer.py",
        f'"""Module {LONG}."""\n'
        f'class Head:\n    """Class {LONG}."""\n'
        f'    async def hit(self):\n        """Method {LONG}."""\n',
    )
    write(tmp_path, "tools/__init__.py", f'"""Package {LONG}."""\n')

    assert texts_by_id(tmp_path) == {
        "tools": f"Package {LONG}.",
        "tools.hammer": f"Module {LONG}.",
        "tools.hammer.Head": f"Class {LONG}.",
        "tools.hammer.Head.hit": f"Method {LONG}.",
    }


def test_definitions_below_a_condition_are_found_and_the_first_of_a_name_wins(tmp_path):
    write(
        tmp_path,
        "disk.py",
        "import os\n"
        f'if os.name == "posix":\n    def usage():\n        """First {LONG}."""\n'
        f'else:\n    def usage():\n        """Second {LONG}."""\n'
        f'try:\n    pass\nexcept OSError:\n    def rescue():\n        """Third {LONG}."""\n',
    )

    assert texts_by_id(tmp_path) == {
        "disk.usage": f"First {LONG}.",
        "disk.rescue": f"Third {LONG}.",
    }


def test_private_short_repeated_and_inner_docstrings_are_left_out(tmp_path):
    write(
        tmp_path,
        "mod.py",
        f'def _private():\n    """Private {LONG}."""\n'
        'def short():\n    """Too short."""\n'
        f'def outer():\n    """Outer {LONG}."""\n    def inner():\n        """Inner {LONG}."""\n'
        f'def again():\n    """Outer {LONG}."""\n',
    )

    assert list(texts_by_id(tmp_path)) == ["mod.outer"]


@pytest.mark.parametrize(
    "name",
    [
        "_hidden.py",
        "pkg/__main__.py",
        "pkg/tests/test_it.py",
        "site-packages/other.py",
        "config-3.11/setup.py",
        "__init__.py",
    ],
)
def test_private_and_foreign_files_are_left_out(tmp_path, name):
    write(tmp_path, name, f'"""Module {LONG}."""\n')

    assert texts_by_id(tmp_path) == {}


def test_reading_runs_nothing(tmp_path):
    source = f'"""Module {LONG}."""\nimport os\nos.environ["RAGKIT_TRAP"] = "sprung"\n'
    write(tmp_path, "trap.py", source)

    [document] = stdlib_documents(tmp_path)

    assert "RAGKIT_TRAP" not in os.environ
    assert Path(document.source).name == "trap.py"
