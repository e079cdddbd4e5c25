"""Versions and platform, for manifests."""

import platform
from importlib import metadata

import ragkit

PACKAGES = (
    "faiss-cpu",
    "faiss-gpu",
    "faiss-gpu-cuvs",
    "numpy",
    "pyarrow",
    "sentence-transformers",
    "tokenizers",
    "torch",
    "transformers",
)


def versions() -> dict[str, str]:
    """Version of each package that has a say in an index, of Python and of the system."""
    found = {"ragkit": ragkit.__version__, "python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found | {"platform": platform.platform()}
