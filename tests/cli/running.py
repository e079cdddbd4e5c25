"""Runs a command in this process and undoes what it does to the process."""

import logging
import os
import signal
import sys
from contextlib import contextmanager

from typer.testing import CliRunner

from ragkit import console
from ragkit.cli.app import app


def run(*arguments, stdin=None, env=None):
    """The outcome of `ragkit ARGUMENTS...`: `exit_code`, `stdout` and `stderr`."""
    with _same_process_afterwards():
        return CliRunner().invoke(app, [str(one) for one in arguments], input=stdin, env=env)


def build(*arguments, **options):
    """`ragkit index build`, with the encoder that needs no model."""
    return run("index", "build", "--encoder", "hash:16", *arguments, **options)


@contextmanager
def _same_process_afterwards():
    numbers = (signal.SIGINT, signal.SIGTERM)
    handlers = [signal.getsignal(number) for number in numbers]
    hook, environment = sys.excepthook, os.environ.copy()
    package = logging.getLogger("ragkit")
    log = package.handlers, package.propagate, package.level
    try:
        yield
    finally:
        for number, handler in zip(numbers, handlers, strict=True):
            signal.signal(number, handler)
        sys.excepthook = hook
        os.environ.clear()
        os.environ.update(environment)
        console.setup(progress="none")
        package.handlers, package.propagate = log[:2]
        package.setLevel(log[2])
