"""Flags of a command, made from the fields of a configuration class.

A flag, then the environment (`RAGKIT_BATCH_TOKENS`), then the file of `--config`, then the default
decides; so a flag's own default is "not given".
"""

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from typing import Any, TypeVar, get_type_hints

import typer
import yaml

from ragkit.config import adapter, find_recipe, fit_config, read_tree

T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class Leaf:
    """A field that holds a value.

    Args:
        path: Names from the outermost class on: `("read", "limit")`.
        hint: The field's type.
    """

    path: tuple[str, ...]
    hint: Any
    default: object
    description: str

    @property
    def name(self) -> str:
        """The field's own name, which is also the flag's."""
        return self.path[-1]

    @property
    def takes_several(self) -> bool:
        """Whether the flag takes several values, with commas between them."""
        return "tuple" in str(self.hint)


def flags_of(schema: type[Any]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command one flag per field of `schema`, nested classes flattened.

    The command takes them as `**flags`, and turns them into the schema with `resolve`.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        own = inspect.signature(command, eval_str=True)
        kept = [p for p in own.parameters.values() if p.kind is not p.VAR_KEYWORD]
        made = [_parameter(leaf) for leaf in _leaves(schema)]
        command.__signature__ = own.replace(parameters=[*kept, *made])  # type: ignore[attr-defined]
        command.__annotations__ = {p.name: p.annotation for p in (*kept, *made)}
        return command

    return decorate


def resolve(schema: type[T], flags: Mapping[str, object], *, file: str | None) -> T:
    """The configuration that flags, environment and file give.

    Raises:
        ConfigError: A value does not fit.
    """
    tree = _read(file)
    for leaf in _leaves(schema):
        value = flags.get(leaf.name)
        if value is None:
            continue
        group = tree
        for key in leaf.path[:-1]:
            group[key] = group.get(key) or {}
            group = group[key]
        group[leaf.name] = str(value).split(",") if leaf.takes_several else value
    return fit_config(schema, tree, origin=file or "the command line")


def explain(
    schema: type[Any], flags: Mapping[str, object], *, file: str | None, context: typer.Context
) -> str:
    """The configuration as YAML, a line per field with where its value comes from."""
    resolved, in_file = resolve(schema, flags, file=file), _read(file)
    lines = []
    for leaf in _leaves(schema):
        value: Any = resolved
        for key in leaf.path:
            value = getattr(value, key)
        text = yaml.safe_dump(value, default_flow_style=True).strip().removesuffix("\n...")
        origin = _origin(leaf, flags, in_file, context)
        lines.append(f"{'.'.join(leaf.path)}: {text}  # {origin}")
    return "\n".join(lines)


def _origin(
    leaf: Leaf, flags: Mapping[str, object], in_file: Mapping[str, Any], context: typer.Context
) -> str:
    if flags.get(leaf.name) is not None:
        source = context.get_parameter_source(leaf.name)
        return "flag" if source is None or source.name != "ENVIRONMENT" else "environment"
    group: Any = in_file
    for key in leaf.path:
        if not isinstance(group, Mapping) or key not in group:
            return "default"
        group = group[key]
    return "file"


def _read(file: str | None) -> dict[str, Any]:
    return {} if file is None else read_tree(find_recipe(file))


def _leaves(schema: type[Any], parents: tuple[str, ...] = ()) -> list[Leaf]:
    hints = get_type_hints(schema)
    described = adapter(schema).json_schema()["properties"]
    found: list[Leaf] = []
    for field in dataclasses.fields(schema):
        hint, path = hints[field.name], (*parents, field.name)
        if dataclasses.is_dataclass(hint) and isinstance(hint, type):
            found += _leaves(hint, path)
        else:
            description = described[field.name].get("description", "")
            found.append(Leaf(path, hint, field.default, description))
    return found


def _parameter(leaf: Leaf) -> inspect.Parameter:
    flag = "--" + leaf.name.replace("_", "-")
    option = typer.Option(
        None,
        f"{flag}/--no-{flag[2:]}" if leaf.hint is bool else flag,
        help=leaf.description.replace("`", "") or None,
        envvar=f"RAGKIT_{leaf.name.upper()}",
        show_default=False if leaf.default in (None, "") else str(leaf.default),
        show_envvar=False,
        rich_help_panel="Reading" if len(leaf.path) > 1 else None,
    )
    annotation = str | None if leaf.takes_several else leaf.hint | None
    return inspect.Parameter(
        leaf.name, inspect.Parameter.KEYWORD_ONLY, default=option, annotation=annotation
    )
