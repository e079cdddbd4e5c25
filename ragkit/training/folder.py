"""The files of a run, and whether a run may use a folder that holds some."""

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from ragkit.config import read_tree
from ragkit.errors import ConfigError
from ragkit.storage import durable_file, make_folder
from ragkit.training.journal import Journal


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
        """What else decides it: number of processes, rows and parameters."""
        return self.path / "facts.yaml"

    @property
    def environment(self) -> Path:
        """Versions and hardware."""
        return self.path / "environment.json"

    @property
    def metrics(self) -> Journal:
        """`step loss_nats grad_norm learning_rate num_tokens`; equal for equal runs."""
        return Journal(self.path / "metrics.jsonl")

    @property
    def timings(self) -> Journal:
        """`step seconds tokens_per_s flops_share`."""
        return Journal(self.path / "timings.jsonl")

    @property
    def evaluations(self) -> Journal:
        """`step num_tokens loss_nats bits_per_byte` on held-out rows."""
        return Journal(self.path / "evaluations.jsonl")

    @property
    def journals(self) -> tuple[Journal, ...]:
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
    def report(self) -> Path:
        """Written last: a run that has it is finished."""
        return self.path / "report.json"

    def claim(
        self, recipe: Mapping[str, Any], facts: Mapping[str, Any], *, overwrite: bool
    ) -> None:
        """Take the folder for a run, or for going on with an equal one; other files in it may stay.

        Raises:
            ConfigError: It holds a run that differs, or files that have the names of a run's.
            StorageError: It cannot be written.
        """
        make_folder(self.path)
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
        journals = (journal.path for journal in self.journals)
        others = (self.checkpoints, self.plot, self.model, self.report, self.environment)
        return (*journals, *others, self.facts, self.recipe)

    def _clear(self) -> None:
        for path in self._parts():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)


def _require_equal(path: Path, wanted: Mapping[str, Any]) -> None:
    found, expected = dict(_leaves(read_tree(path))), dict(_leaves(_plain(wanted)))
    names = [name for name in {**found, **expected} if found.get(name) != expected.get(name)]
    if names:
        faults = [f"  {n}: was {found.get(n)!r}, now {expected.get(n)!r}" for n in names]
        head = f"{path} is of another run: choose another folder, or overwrite this run"
        raise ConfigError("\n".join([head, *faults]))


def _write_tree(path: Path, tree: Mapping[str, Any]) -> None:
    with durable_file(path) as file:
        file.write(yaml.safe_dump(_plain(tree), sort_keys=False).encode())


def _plain(tree: Mapping[str, Any]) -> dict[str, Any]:
    """The tree as YAML gives it back: tuples are lists."""
    return yaml.safe_load(yaml.safe_dump(_listed(tree), sort_keys=False))


def _listed(value: Any) -> Any:  # noqa: ANN401 - any value of a recipe
    if isinstance(value, Mapping):
        return {key: _listed(inner) for key, inner in value.items()}
    return [_listed(inner) for inner in value] if isinstance(value, list | tuple) else value


def _leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The values of a tree by their dotted names."""
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
