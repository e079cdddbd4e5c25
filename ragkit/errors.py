"""Exceptions: each says what was expected, what was found and what to do, and has an exit code."""

from typing import ClassVar


class RagkitError(Exception):
    """Root of every error that ragkit raises on purpose."""

    exit_code: ClassVar[int] = 1


class ConfigError(RagkitError, ValueError):
    """An argument, flag or recipe does not make sense."""

    exit_code = 2


class ShapeError(RagkitError, ValueError):
    """An array has another shape or dtype than its consumer needs."""

    exit_code = 2


class MissingDependencyError(RagkitError, ImportError):
    """A package that this path needs is absent, or two that exclude each other are present."""

    exit_code = 2


class DataError(RagkitError, ValueError):
    """The input was rejected: unreadable, malformed or empty."""

    exit_code = 3


class CheckpointError(RagkitError):
    """A model folder is incomplete, damaged or of an unsupported kind."""

    exit_code = 2


class DivergedError(RagkitError):
    """The loss or the gradients of a training run are no longer finite."""


class IndexStateError(RagkitError):
    """The index, or a partial build of it, does not fit what was asked of it."""

    exit_code = 4


class ModelMismatchError(IndexStateError):
    """The encoder at hand is not the one that embedded the index."""


class IndexCorruptError(IndexStateError):
    """A file of the index is missing, damaged or contradicts the manifest."""

    exit_code = 5


class RecallError(IndexStateError):
    """No setting of the index type reaches the recall that was asked for."""

    exit_code = 7


class IndexLockedError(IndexStateError):
    """Another process is writing to the index."""

    exit_code = 8


class StorageError(RagkitError, OSError):
    """The disk, the memory or the device gave out."""

    exit_code = 6


class HubError(RagkitError, OSError):
    """A model could not be fetched from the hub."""

    exit_code = 9
