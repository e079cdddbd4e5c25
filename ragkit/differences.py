"""In what two trees of settings differ."""

from collections.abc import Iterator, Mapping
from typing import Any


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """One line for each key, dotted where groups nest, whose values differ."""
    then, current = dict(_flatten(before)), dict(_flatten(now))
    return [
        f"  {key}: {then.get(key)!r} then, {current.get(key)!r} now"
        for key in sorted(then.keys() | current.keys())
        if then.get(key) != current.get(key)
    ]


def _flatten(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
