"""The files of a run, and whether a run may use a folder that holds some."""

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock, Timeout

from ragkit.config import read_tree
from ragkit.differences import differences
from ragkit.errors import ConfigError
from ragkit.storage import durable_file, make_folder, storage_errors
from ragkit.training.metrics_file import MetricsFile


@dataclass(frozen=True)
class RunFolder:
    """Where the parts of a run lie.

    Args:
        path: The folder; made if it is missing.
    """

    path: Path

    @property
    def recipe(self) -> Path:
        """What decides the run: options, or the whole recipe, resolved."""
        return self.path / "recipe.yaml"

    @property
    def facts(self) -> Path:
        """What else decides it: processes, rows, parameters, and what the caller knows."""
        return self.path / "facts.yaml"

    @property
    def lock(self) -> Path:
        """Locked while a process trains; empty."""
        return self.path / "LOCK"

    @property
    def environment(self) -> Path:
        """Versions and hardware."""
        return self.path / "environment.json"

    @property
    def metrics(self) -> MetricsFile:
        """`step loss_nats grad_norm learning_rate num_tokens`; equal for equal runs."""
        return MetricsFile(self.path / "metrics.jsonl")

    @property
    def timings(self) -> MetricsFile:
        """`step seconds tokens_per_s flops_share`; see `ragkit.training.pace` for the last."""
        return MetricsFile(self.path / "timings.jsonl")

    @property
    def evaluations(self) -> MetricsFile:
        """`step num_tokens loss_nats bits_per_byte` on held-out rows."""
        return MetricsFile(self.path / "evaluations.jsonl")

    @property
    def metrics_files(self) -> tuple[MetricsFile, ...]:
        """All files that grow with the run."""
        return self.metrics, self.timings, self.evaluations

    @property
    def checkpoints(self) -> Path:
        """What the run goes on from; nobody else reads it."""
        return self.path / "checkpoints"

    @property
    def plot(self) -> Path:
        """The curves."""
        return self.path / "loss.png"

    @property
    def model(self) -> Path:
        """The trained model, as `save_pretrained` writes it."""
        return self.path / "model"

    @property
    def adapter(self) -> Path:
        """The trained adapter of peft, which takes the place of the model where one was trained."""
        return self.path / "adapter"

    @property
    def report(self) -> Path:
        """Written last: a run that has it is finished."""
        return self.path / "report.json"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes out during the block; a process that is killed leaves no lock.

        Raises:
            ConfigError: Another process trains there.
            StorageError: The folder cannot be written.
        """
        make_folder(self.path)
        lock = FileLock(self.lock)
        with storage_errors(self.lock):
            try:
                lock.acquire(blocking=False)
            except Timeout as error:
                raise ConfigError(
                    f"another process trains in {self.path}: wait until it ends, or choose "
                    "another folder"
                ) from error
        try:
            yield
        finally:
            lock.release()

    def claim(
        self, recipe: Mapping[str, Any], facts: Mapping[str, Any], *, overwrite: bool
    ) -> None:
        """Take a locked folder for a run, or for going on with an equal one; other files may stay.

        Raises:
            ConfigError: It holds a run that differs, or files that have the names of a run's.
            StorageError: It cannot be written.
        """
        held = [path.name for path in self._parts() if path.exists()]
        if held and not self.recipe.is_file():
            raise ConfigError(
                f"{self.path} holds {', '.join(held)}, but not of a run: choose another folder"
            )
        if overwrite:
            self._clear()
        # The recipe comes first and goes last: a folder without it is not a run's.
        for path, tree in ((self.recipe, recipe), (self.facts, facts)):
            if path.is_file():
                _require_equal(path, tree)
            else:
                _write_tree(path, tree)

    def _parts(self) -> tuple[Path, ...]:
        """All files and folders of a run, the recipe last."""
        lines = (file.path for file in self.metrics_files)
        trained = (self.checkpoints, self.model, self.adapter)
        others = (self.plot, self.report, self.environment)
        return (*lines, *trained, *others, self.facts, self.recipe)

    def _clear(self) -> None:
        for path in self._parts():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)


def _require_equal(path: Path, wanted: Mapping[str, Any]) -> None:
    faults = differences(read_tree(path), _plain(wanted))
    if faults:
        head = f"{path} is of another run: choose another folder, or overwrite this run"
        raise ConfigError("\n".join([head, *faults]))


def _write_tree(path: Path, tree: Mapping[str, Any]) -> None:
    with durable_file(path) as file:
        file.write(yaml.safe_dump(_plain(tree), sort_keys=False).encode())


def _plain(tree: Mapping[str, Any]) -> dict[str, Any]:
    """The tree as a file gives it back: tuples are lists."""
    return json.loads(json.dumps(tree))
