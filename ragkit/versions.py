"""Versions of what has a say in a result, for manifests and run folders."""

import platform
from collections.abc import Iterable
from importlib import metadata


def versions(packages: Iterable[str]) -> dict[str, str]:
    """Version of ragkit, of Python, of each package that is installed, and of the system."""
    found = {"python": platform.python_version()}
    for package in ("ragkit", *packages):
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found | {"platform": platform.platform()}
