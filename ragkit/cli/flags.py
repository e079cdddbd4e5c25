"""Flags of a command, made from the fields of a configuration class.

A flag, then the environment (`RAGKIT_BATCH_TOKENS`), then the file of `--config`, then the default
decides; so a flag's own default is "not given".
"""

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from typing import Any, TypeVar, get_args, get_type_hints

import typer
import yaml

from ragkit.config import find_recipe, fit_config, read_tree

T = TypeVar("T")
Path = tuple[str, ...]
"""Where a field lies: `("read", "limit")`."""


def flags_of(schema: type[Any]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command one flag per field of `schema`, nested classes flattened.

    The command takes them as `**flags`, and turns them into the schema with `resolve`.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        own = inspect.signature(command, eval_str=True)
        kept = [p for p in own.parameters.values() if p.kind is not p.VAR_KEYWORD]
        made = [_parameter(path, field, hint, doc) for path, field, hint, doc in _fields(schema)]
        command.__signature__ = own.replace(parameters=[*kept, *made])  # type: ignore[attr-defined]
        command.__annotations__ = {p.name: p.annotation for p in (*kept, *made)}
        return command

    return decorate


def resolve(schema: type[T], flags: Mapping[str, object], *, file: str | None) -> T:
    """The configuration that flags, environment and file give.

    Raises:
        ConfigError: A value does not fit.
    """
    return fit_config(schema, _tree(schema, flags, file), origin=file or "the command line")


def explain(
    schema: type[Any], flags: Mapping[str, object], *, file: str | None, context: typer.Context
) -> str:
    """The configuration as YAML, a line per field with where its value comes from."""
    in_file = {} if file is None else read_tree(find_recipe(file))
    resolved = resolve(schema, flags, file=file)
    lines = []
    for path, _, _, _ in _fields(schema):
        value, filed = resolved, in_file
        for key in path:
            value = getattr(value, key)
            filed = filed.get(key, {}) if isinstance(filed, Mapping) else {}
        if flags.get(path[-1]) is not None:
            source = context.get_parameter_source(path[-1])
            origin = (
                "environment" if source is not None and source.name == "ENVIRONMENT" else "flag"
            )
        else:
            origin = "default" if filed == {} else "file"
        text = yaml.safe_dump(value, default_flow_style=True).strip().removesuffix("\n...")
        lines.append(f"{'.'.join(path)}: {text}  # {origin}")
    return "\n".join(lines)


def _tree(schema: type[Any], flags: Mapping[str, object], file: str | None) -> dict[str, Any]:
    tree = {} if file is None else read_tree(find_recipe(file))
    for path, _, hint, _ in _fields(schema):
        value = flags.get(path[-1])
        if value is None:
            continue
        group = tree
        for key in path[:-1]:
            group = group.setdefault(key, {})
        group[path[-1]] = value.split(",") if _is_tuple(hint) else value
    return tree


def _fields(schema: type[Any]) -> list[tuple[Path, dataclasses.Field[Any], Any, str]]:
    """Path, field, type and description of every field, nested classes flattened."""
    from pydantic import TypeAdapter

    hints = get_type_hints(schema)
    described = TypeAdapter(schema).json_schema()["properties"]
    found: list[tuple[Path, dataclasses.Field[Any], Any, str]] = []
    for field in dataclasses.fields(schema):
        hint = hints[field.name]
        if dataclasses.is_dataclass(hint):
            nested = _fields(hint)  # type: ignore[arg-type]
            found += [((field.name, *path), *rest) for path, *rest in nested]  # type: ignore[misc]
        else:
            found.append(((field.name,), field, hint, described[field.name].get("description", "")))
    return found


def _parameter(
    path: Path, field: dataclasses.Field[Any], hint: Any, description: str
) -> inspect.Parameter:
    flag = "--" + field.name.replace("_", "-")
    names = f"{flag}/--no-{flag[2:]}" if hint is bool else flag
    shown = "" if field.default in (None, "") else str(field.default)
    option = typer.Option(
        None,
        names,
        help=description.replace("`", "") or None,
        envvar=f"RAGKIT_{field.name.upper()}",
        show_default=shown or False,
        show_envvar=False,
    )
    annotation = str | None if _is_tuple(hint) else hint | None
    return inspect.Parameter(
        field.name, inspect.Parameter.KEYWORD_ONLY, default=option, annotation=annotation
    )


def _is_tuple(hint: Any) -> bool:
    """Whether a field takes several values, written with commas."""
    return "tuple" in str(hint) and bool(get_args(hint))
