"""Limits of this process, by which tests make disks full and files unreadable for any user."""

from contextlib import contextmanager

import pytest


@contextmanager
def limited(name, value):
    """Lower a limit such as `RLIMIT_FSIZE` within the block only: it binds pytest's files, too."""
    resource = pytest.importorskip("resource")
    kind = getattr(resource, name)
    before = resource.getrlimit(kind)
    resource.setrlimit(kind, (value, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(kind, before)
