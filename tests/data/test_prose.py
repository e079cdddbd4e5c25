import bz2
import io
import sys

import pypdf
import pytest

from ragkit.data.markup import rst_title
from ragkit.errors import DataError, MissingDependencyError

PAGE = b"""<!doctype html><html><head><title> A  page </title><style>p { color: red }</style></head>
<body><h1>Head</h1><p>Some <b>bold</b> and<i> slanted</i>
text.<br>Next &amp; last<script>steal("cookies")</script></p><!-- hidden -->
<ul><li>one<li>two</ul><pre>a
   b</pre><table><tr><td>x<td>y</table></body></html>"""


def make_pdf(*texts, title=""):
    """A PDF with one page per text."""
    objects = ["<< /Type /Catalog /Pages 2 0 R >>", ""]
    for text in texts:
        number = len(objects) + 1
        stream = f"BT /F1 12 Tf 20 100 Td ({text}) Tj ET"
        font = "<< /F1 << /Type /Font /Subtype /Type1 /BaseFont /Helvetica >> >>"
        objects.append(
            f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 300 200] /Contents {number + 1} 0 R "
            f"/Resources << /Font {font} >> >>"
        )
        objects.append(f"<< /Length {len(stream)} >>\nstream\n{stream}\nendstream")
    pages = " ".join(f"{number} 0 R" for number in range(3, len(objects) + 1, 2))
    objects[1] = f"<< /Type /Pages /Kids [{pages}] /Count {len(texts)} >>"
    body, offsets = "%PDF-1.4\n", []
    for number, content in enumerate(objects, 1):
        offsets.append(len(body))
        body += f"{number} 0 obj\n{content}\nendobj\n"
    table = "".join(f"{offset:010d} 00000 n \n" for offset in offsets)
    size = len(objects) + 1
    trailer = f"trailer << /Size {size} /Root 1 0 R /Info << /Title ({title}) >> >>"
    xref = f"xref\n0 {size}\n0000000000 65535 f \n{table}"
    return f"{body}{xref}{trailer}\nstartxref\n{len(body)}\n%%EOF".encode()


def write(path, data):
    path.write_bytes(data)
    return path


def test_a_text_file_is_one_document_named_by_its_path(tmp_path, read):
    (tmp_path / "sub").mkdir()
    write(tmp_path / "sub" / "v1.2 notes.txt", b" kept\r\nas it is \r\n")

    [document] = read(tmp_path)

    assert (document.id, document.kind) == ("sub/v1.2 notes.txt", "file")
    assert (document.title, document.text) == ("v1.2 notes", " kept\r\nas it is \r\n")
    assert document.source == str(tmp_path / "sub" / "v1.2 notes.txt")


def test_a_compressed_text_file_is_read(tmp_path, read):
    [document] = read(write(tmp_path / "notes.txt.bz2", bz2.compress(b"words")))

    assert (document.id, document.title, document.text) == ("notes.txt.bz2", "notes", "words")


@pytest.mark.parametrize(
    ("name", "text", "title"),
    [
        ("a.md", "intro\n\n## First ##\n# Second\n", "First"),
        ("a.markdown", "```\n# code\n```\nTitle\n=====\n", "Title"),
        ("a.md", "no heading", "a"),
        ("a.rst", "=====\nTitle\n=====\n\nwords\n", "Title"),
        ("a.rst", ".. note::\n\nTitle\n^^^^^\n", "Title"),
        ("README.rst", "words\n\n----\n\nmore", "README"),
    ],
)
def test_the_first_heading_is_the_title(tmp_path, read, name, text, title):
    [document] = read(write(tmp_path / name, text.encode()))

    assert (document.title, document.text) == (title, text)


def test_an_underline_shorter_than_the_line_above_is_no_heading():
    assert rst_title("A long line\n---\n") == ""


def test_html_gives_its_visible_text(tmp_path, read):
    [document] = read(write(tmp_path / "a.html", PAGE))

    assert document.title == "A page"
    assert document.text == (
        "Head\n\nSome bold and slanted text.\nNext & last\n\none\ntwo\n\na\n   b\n\nx y"
    )


@pytest.mark.parametrize(
    ("data", "text", "num_invalid"),
    [
        (b'<meta charset="iso-8859-1"><p>caf\xe9', "caf\u00e9", 0),
        (
            b'<?xml version="1.0" encoding="utf-8"?><html><body>caf\xc3\xa9</body></html>',
            "caf\u00e9",
            0,
        ),
        ("<p>caf\u00e9".encode("utf-16"), "caf\u00e9", 0),
        (b"<p>caf\xe9", "caf\ufffd", 1),
        (b'<meta charset="no-such"><p>caf\xe9', "caf\ufffd", 1),
        (b"<p>a\x00b</p><p>c", "a\ufffdb\n\nc", 0),
    ],
)
def test_html_is_decoded_as_it_declares(tmp_path, read, data, text, num_invalid):
    [document] = read(write(tmp_path / "a.html", data))

    assert document.text == text
    assert read.counts["invalid_utf8"] == num_invalid


@pytest.mark.parametrize(
    "data", [b"", b"<!-- only -->", b"<script>x()</script>", b"<p> &nbsp; </p>"]
)
def test_html_without_visible_text_is_empty(tmp_path, read, data):
    assert read(write(tmp_path / "a.html", data)) == []
    assert read.counts == {"empty": 1}


def test_html_that_the_parser_cannot_finish_is_refused(tmp_path, read):
    assert read(write(tmp_path / "a.html", b"<div>x" * 5_000)) == []
    assert read.rejected[0]["code"] == "unreadable_file"


def test_pdf_gives_the_text_of_all_pages(tmp_path, read):
    [document] = read(write(tmp_path / "a.pdf", make_pdf("first page", "second", title="On pages")))

    assert (document.title, document.text) == ("On pages", "first page\n\nsecond")


def make_encrypted():
    writer = pypdf.PdfWriter(clone_from=io.BytesIO(make_pdf("secret")))
    writer.encrypt("password", algorithm="RC4-128")
    file = io.BytesIO()
    writer.write(file)
    return file.getvalue()


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (make_pdf("cut")[:60], "broken PDF"),
        (b"%PDF-1.7 and then nothing of the kind", "broken PDF"),
        (b"", "broken PDF"),
        (make_encrypted, "needs a password"),
    ],
    ids=["cut", "nonsense", "nothing", "locked"],
)
def test_a_pdf_that_cannot_be_read_is_refused_and_the_next_file_is_read(
    tmp_path, read, data, reason
):
    write(tmp_path / "a.pdf", data() if callable(data) else data)
    write(tmp_path / "b.txt", b"words")

    documents = read(tmp_path)

    assert [document.id for document in documents] == ["b.txt"]
    assert read.counts == {"unreadable_file": 1}
    assert reason in read.rejected[0]["reason"]


def test_a_file_over_the_limit_is_refused_unread(tmp_path, read):
    write(tmp_path / "a.txt", b"x" * 2_001)
    write(tmp_path / "b.txt", b"x" * 2_000)

    assert [document.id for document in read(tmp_path, max_file_mb=0.002)] == ["b.txt"]
    assert read.counts == {"too_large": 1}


def test_bad_bytes_in_a_file_are_settled_by_the_policy(tmp_path, read):
    write(tmp_path / "a.txt", b"caf\xe9\x00")
    write(tmp_path / "b.txt", b"tea")

    assert [document.text for document in read(tmp_path)] == ["caf\ufffd", "tea"]
    assert read.counts == {"invalid_utf8": 1, "nul": 1}
    assert [document.text for document in read(tmp_path, on_invalid_utf8="skip")] == ["tea"]
    with pytest.raises(DataError, match="--on-invalid-utf8"):
        read(tmp_path, on_invalid_utf8="error")


def test_a_missing_package_is_named_with_the_line_to_run(tmp_path, read, monkeypatch):
    monkeypatch.setitem(sys.modules, "ragkit.data.webpages", None)

    with pytest.raises(MissingDependencyError, match=r"pip install 'ragkit\[files\]'"):
        read(write(tmp_path / "a.html", PAGE))


def test_a_file_name_that_is_not_utf8_gives_a_valid_id(tmp_path, read):
    path = bytes(tmp_path) + b"/caf\xe9.txt"
    with open(path, "wb") as file:  # noqa: PTH123 - a path of bytes
        file.write(b"words")

    [document] = read(tmp_path)

    assert document.id == "caf\ufffd.txt"
    assert document.source.encode("utf-8").endswith(b".txt")
