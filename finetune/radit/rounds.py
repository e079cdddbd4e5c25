"""RA-DIT in rounds: retrieve, tune the LM, score, tune the retriever, and again.

After Lin et al. 2023 (arXiv:2310.01352, sections 2 and 5.2), where one round is as good as two. A
run that was killed goes on at the stage, and within the stage, where it was.
"""

import json
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ragkit.config import adapter, data_folder
from ragkit.errors import ConfigError, DataError
from ragkit.finetune.radit.examples import read_examples
from ragkit.finetune.radit.recipe import RaditRecipe
from ragkit.finetune.radit.stages import Stages, State
from ragkit.retrieval.build import run_build
from ragkit.storage import durable_file, hash_file, remove_folder
from ragkit.training.folder import RunFolder

SUMMARY = "summary.json"
RECIPE = "recipe.yaml"
ABLATION = "ablation"
_PLACES = ("data_dir", "out")

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Tuned:
    """What a finished run left behind.

    Args:
        model: The tuned LM; `None` if the recipe leaves the LM as it is.
        query_encoder: The tuned query tower; `None` if the recipe leaves the retriever as it is.
    """

    model: str | None
    query_encoder: str | None


def run_rounds(recipe: RaditRecipe, *, overwrite: bool = False) -> dict[str, Any]:
    """Tune as the recipe says, or go on where a run like it was stopped; its summary.

    The same recipe gives the same `summary.json`, however often it was killed.

    Args:
        overwrite: Begin anew if `out` holds another run; LM scores that still hold are kept.

    Raises:
        ConfigError: The parts of the recipe do not fit one another, or `out` holds another run.
        DataError: The data cannot be read, or there is too little of it.
        CheckpointError, HubError, MissingDependencyError: A model cannot be loaded.
        DivergedError: A loss is no longer finite.
        StorageError: The disk is full or failing.
    """
    if (num_processes := int(os.environ.get("WORLD_SIZE", "1"))) > 1:
        raise ConfigError(
            f"rounds run in one process, got {num_processes}: start without accelerate launch or "
            "torchrun"
        )
    folder = RunFolder(Path(recipe.out))
    with folder.locked():
        if overwrite:
            _clear(folder.path)
        folder.claim(resolved(recipe), _facts(recipe), overwrite=overwrite)
        index = prepare_index(recipe)
        examples = read_examples(recipe)
        state, rounds = State(recipe.model, None), []
        for number in range(1, recipe.rounds + 1):
            place = folder.path / f"round-{number}"
            logger.info("round %d of %d in %s", number, recipe.rounds, place)
            state, facts = Stages(recipe, index, examples, place).run(state)
            rounds.append(facts)
        summary = {
            "leaks": examples.leaks,
            "rounds": rounds,
            "model": _tuned_path(state.model, recipe.model, folder.path),
            "query_encoder": _tuned_path(state.query_encoder, None, folder.path),
        }
        return _write(folder.path / SUMMARY, summary)


def prepare_index(recipe: RaditRecipe) -> Path:
    """The index of the recipe's corpus, built unless it is there.

    Raises:
        ConfigError, DataError, IndexStateError, StorageError: As for `build_index`.
    """
    data, index = data_folder(recipe.data_dir), Path(recipe.corpus.index)
    run_build([str(data / name) for name in recipe.corpus.inputs], index, recipe.corpus.build)
    return index


def find_tuned(recipe: RaditRecipe) -> Tuned:
    """Where the tuned models of the recipe's run lie; an unfinished run is run to its end.

    Raises:
        ConfigError, DataError, StorageError: As for `run_rounds`.
    """
    folder = RunFolder(Path(recipe.out))
    if not (folder.path / SUMMARY).is_file():
        run_rounds(recipe)
    with folder.locked():
        folder.claim(resolved(recipe), _facts(recipe), overwrite=False)
        summary = json.loads((folder.path / SUMMARY).read_bytes())
    places = [summary[name] for name in ("model", "query_encoder")]
    return Tuned(*(place and str(folder.path / place) for place in places))


def resolved(recipe: RaditRecipe) -> dict[str, Any]:
    """What decides a run, as JSON values: all but the places of files and what is tested."""
    tree: dict[str, Any] = adapter(RaditRecipe).dump_python(recipe, mode="json")
    tree["corpus"].pop("index")
    test = tree.pop("test")
    # Questions that are asked later must not be learnt from.
    tree["test"] = test and {"file": test["file"]}
    return {name: value for name, value in tree.items() if name not in _PLACES}


def _facts(recipe: RaditRecipe) -> dict[str, Any]:
    """Hashes of the files that the run learns from.

    Raises:
        DataError: One is missing.
    """
    data = data_folder(recipe.data_dir)
    names = {name for one in recipe.tasks for name in (one.file, one.passages) if name}
    for name in names:
        if not (data / name).is_file():
            raise DataError(f"there is no file {data / name}: set data_dir, or mend the recipe")
    return {"files": {name: hash_file(data / name) for name in sorted(names)}}


def _tuned_path(found: str | None, base: str | None, folder: Path) -> str | None:
    """The place below the run's folder of what was tuned; `None` for what was not."""
    return None if found is None or found == base else str(Path(found).relative_to(folder))


def _write(path: Path, tree: Mapping[str, Any]) -> dict[str, Any]:
    """What is in the file now."""
    text = json.dumps(tree, indent=1, sort_keys=True, allow_nan=False)
    with durable_file(path) as file:
        file.write(text.encode() + b"\n")
    return json.loads(text)


def _clear(folder: Path) -> None:
    if not (folder / RECIPE).is_file():
        return  # whatever lies there is not of a run
    (folder / SUMMARY).unlink(missing_ok=True)
    for place in [*folder.glob("round-*"), *folder.glob(ABLATION)]:
        remove_folder(place)
