"""What came out of a run."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ragkit.storage import durable_file


@dataclass(frozen=True, kw_only=True)
class TrainingReport:
    """How far a run came and how well it did.

    Args:
        out: The run's folder; the trained model is in `model/` once `finished`, or the trained
            adapter of peft in `adapter/`.
        finished: Whether all steps are done; a signal may have stopped it before.
        resumed_from: The step of the checkpoint that it went on from; 0 for none.
        num_tokens: Positions that were read, padding included.
        loss_nats: Mean per target over the last line of `metrics.jsonl`.
        eval_loss_nats: On held-out rows, after the last step.
        selection: Of a run that keeps its best model: the `step` of that, 0 for the untrained one,
            and what was measured then.
        seconds: Of training, without evaluations and checkpoints, since the run was resumed.
    """

    out: str
    finished: bool
    resumed_from: int
    steps: int
    num_tokens: int
    loss_nats: float | None
    eval_loss_nats: float | None
    bits_per_byte: float | None
    seconds: float
    tokens_per_s: float
    selection: dict[str, Any] | None = None

    @property
    def model(self) -> Path:
        """Folder of the trained model."""
        return Path(self.out) / "model"

    @property
    def adapter(self) -> Path:
        """Folder of the trained adapter, where one of peft was trained."""
        return Path(self.out) / "adapter"


def write_report(path: Path, report: TrainingReport) -> None:
    """Write a report down; its presence says that the run is finished."""
    with durable_file(path) as file:
        file.write((json.dumps(asdict(report), indent=1) + "\n").encode())


def read_report(path: Path) -> TrainingReport:
    """The report that `write_report` wrote."""
    return TrainingReport(**json.loads(path.read_text(encoding="utf-8")))
