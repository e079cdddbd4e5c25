"""Recipes: a YAML file that fits a frozen dataclass, overridden by `key=value`."""

import dataclasses
import os
from collections.abc import Collection, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeVar, dataclass_transform

import yaml

from ragkit.errors import ConfigError

T = TypeVar("T")

COMMANDS = {
    "pretrain": "ragkit pretrain",
    "perplexity": "ragkit eval",
    "radit": "ragkit finetune",
    "retrieval": "ragkit eval",
}
"""What runs a recipe, by its kind."""

LAUNCH = "accelerate"
"""The folder among the recipes whose files accelerate reads."""

_adapters: dict[type[Any], Any] = {}


@dataclass_transform(
    frozen_default=True, kw_only_default=True, field_specifiers=(dataclasses.field,)
)
def config(cls: type[T]) -> type[T]:
    """Make a class a frozen, keyword-only dataclass that rejects unknown keys."""
    cls.__pydantic_config__ = {"extra": "forbid", "use_attribute_docstrings": True}  # type: ignore[attr-defined]
    return dataclasses.dataclass(frozen=True, kw_only=True)(cls)


def find_recipe(name: str) -> Path:
    """The recipe's file: a path, or a name below `ragkit.recipes` without `.yaml`.

    Raises:
        ConfigError: There is no such file; the message lists the recipes that ship.
    """
    shipped = Path(str(files("ragkit.recipes")))
    for candidate in (Path(name), shipped / f"{name}.yaml"):
        if candidate.is_file():
            return candidate
    known = sorted(
        str(path.relative_to(shipped).with_suffix(""))
        for path in shipped.rglob("*.yaml")
        if path.parent.name != LAUNCH
    )
    raise ConfigError(
        f"no recipe {name!r}: give a path to a YAML file or one of {', '.join(known)}"
    )


def require_kind(path: Path, kinds: Collection[str]) -> str:
    """The `kind` of the recipe at `path`, which is one of `kinds`.

    Raises:
        ConfigError: It has another kind, or none; the message names the command that runs it.
    """
    found = read_tree(path).get("kind")
    kind = str(found)  # a list cannot be looked up
    if kind in kinds:
        return kind
    expected = " or ".join(sorted(kinds))
    if kind in COMMANDS:
        raise ConfigError(
            f"{path} is a {kind} recipe, expected one of kind {expected}: run "
            f"`{COMMANDS[kind]} {path}`"
        )
    raise ConfigError(
        f"{path} must have `kind: {expected}`, found {found!r}: add or mend that line"
    )


def load_config(schema: type[T], path: Path, overrides: Sequence[str] = ()) -> T:
    """Return the recipe at `path`, with `a.b=value` overrides applied, as an instance of `schema`.

    Raises:
        ConfigError: The file is not YAML, or a key or value does not fit the schema.
    """
    tree = read_tree(path)
    for override in overrides:
        _assign(tree, override)
    return fit_config(schema, tree, origin=str(path))


def data_folder(data_dir: str) -> Path:
    """Where recipes find data: `data_dir`, or `RAGKIT_DATA`, or `data` if both are empty."""
    return Path(data_dir or os.environ.get("RAGKIT_DATA", "") or "data")


def read_tree(path: Path) -> dict[str, Any]:
    """The keys and values of the YAML file at `path`.

    Raises:
        ConfigError: The file cannot be read, or is not a YAML mapping.
    """
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not a YAML file: {error}") from error
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from error
    if not isinstance(tree, dict):
        raise ConfigError(f"{path} must hold `key: value` lines, found {type(tree).__name__}")
    return tree


def fit_config(schema: type[T], tree: Mapping[str, Any], *, origin: str) -> T:
    """`tree` as an instance of `schema`.

    Args:
        origin: Where the tree comes from, for the message.

    Raises:
        ConfigError: A key or value does not fit; the message lists all that do not.
    """
    from pydantic import ValidationError

    try:
        return adapter(schema).validate_python(tree)
    except ValidationError as error:
        faults = [_describe(fault) for fault in error.errors()]
        raise ConfigError(
            "\n".join([f"{origin} does not fit {schema.__name__}:", *faults])
        ) from error


def adapter(schema: type[Any]) -> Any:  # noqa: ANN401 - pydantic is imported when it is needed
    """Pydantic's `TypeAdapter` for a schema; made once, since that reads the schema's source."""
    from pydantic import TypeAdapter

    if schema not in _adapters:
        _adapters[schema] = TypeAdapter(schema)
    return _adapters[schema]


def _describe(fault: Mapping[str, Any]) -> str:
    place = ".".join(map(str, fault["loc"]))
    message = fault["msg"].removeprefix("Value error, ")
    # A check of several fields together was given all of them: its message names what counts.
    if "error" in fault.get("ctx", {}):
        return f"  {place}: {message}" if place else f"  {message}"
    return f"  {place}: {message}, got {fault['input']!r}"


def dump_config(instance: object) -> str:
    """`instance` as YAML that `load_config` reads back to an equal object."""
    tree = adapter(type(instance)).dump_python(instance, mode="json")
    return yaml.safe_dump(tree, sort_keys=False)


def _assign(tree: dict[str, Any], override: str) -> None:
    """Put `value` at `a.b` of `tree` for the override `a.b=value`."""
    key, separator, value = override.partition("=")
    if not separator or not key:
        raise ConfigError(
            f"expected key=value, got {override!r}: write for example encoder=hash:64"
        )
    *parents, leaf = key.split(".")
    for parent in parents:
        tree = tree.setdefault(parent, {})
        if not isinstance(tree, dict):
            raise ConfigError(f"{override!r}: {parent!r} is a value, not a group of keys")
    try:
        tree[leaf] = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise ConfigError(
            f"{override!r}: the value is not YAML: quote it, or close its brackets"
        ) from error
