"""The layers and rules on the page are those that import-linter enforces.

`pytest tests/docs --update-golden` writes them into the page.
"""

import ast
import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "architecture.md"
CONTRACTS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"][
    "importlinter"
]["contracts"]


def summary(name):
    """The first line of the docstring of `ragkit.NAME`."""
    module = ROOT / "ragkit" / f"{name}.py"
    source = module if module.is_file() else ROOT / "ragkit" / name / "__init__.py"
    return ast.get_docstring(ast.parse(source.read_text(encoding="utf-8"))).splitlines()[0]


def layer_table():
    [layers] = [contract["layers"] for contract in CONTRACTS if contract["type"] == "layers"]
    rows = ["| packages | hold |", "|---|---|"]
    for layer in layers:
        # A name in parentheses has its place, but need not exist yet.
        names = [part.strip(" ()") for part in layer.split("|")]
        names = [name for name in names if find(name)]
        if names:
            shown = ", ".join(f"`ragkit.{name}`" for name in names)
            rows.append(f"| {shown} | {'<br>'.join(summary(name) for name in names)} |")
    return "\n".join(rows)


def find(name):
    return (ROOT / "ragkit" / name).is_dir() or (ROOT / "ragkit" / f"{name}.py").is_file()


def rule_list():
    return "\n".join(f"* {contract['name']}" for contract in CONTRACTS)


def replace_block(page, name, text):
    block = re.compile(rf"(<!-- {name} -->\n).*?(<!-- end of {name} -->)", re.DOTALL)
    assert block.search(page), f"{PAGE.name} lacks the comments around {name}"
    return block.sub(lambda match: f"{match[1]}\n{text}\n\n{match[2]}", page)


def test_the_page_shows_the_contracts(update_golden):
    page = PAGE.read_text(encoding="utf-8")

    expected = replace_block(page, "layers", layer_table())
    expected = replace_block(expected, "rules", rule_list())

    if update_golden:
        PAGE.write_text(expected, encoding="utf-8")
    assert page == expected, "run `pytest tests/docs --update-golden` and look at the difference"
