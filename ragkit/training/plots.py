"""The curves of a run as a picture."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from ragkit.training.checkpoints import writing


def plot_run(
    path: Path, metrics: Sequence[dict[str, Any]], evaluations: Sequence[dict[str, Any]]
) -> None:
    """Draw loss, and bits per byte where they were measured, over tokens.

    Raises:
        StorageError: The picture cannot be written.
    """
    in_bytes = [line for line in evaluations if "bits_per_byte" in line]
    figure = Figure(figsize=(7, 7 if in_bytes else 4))
    figure.subplots_adjust(top=0.97, right=0.97, hspace=0.08)
    losses, *others = figure.subplots(2 if in_bytes else 1, 1, squeeze=False, sharex=True)[:, 0]
    _draw(losses, metrics, "loss_nats", label="training", marker="")
    if evaluations:
        _draw(losses, evaluations, "loss_nats", label="held out", marker="o")
    losses.set_ylabel("loss (nats per target)")
    losses.legend()
    for axes in others:
        _draw(axes, in_bytes, "bits_per_byte", label="held out", marker="o")
        axes.set_ylabel("bits per byte, held out")
    for axes in (losses, *others):
        axes.grid(alpha=0.3)
    (others or [losses])[-1].set_xlabel("tokens")
    with writing(path):
        figure.savefig(path, dpi=120)


def _draw(
    axes: Any,  # noqa: ANN401 - matplotlib's subplots are untyped
    lines: Sequence[dict[str, Any]],
    name: str,
    *,
    label: str,
    marker: str,
) -> None:
    tokens, values = [line["num_tokens"] for line in lines], [line[name] for line in lines]
    axes.plot(tokens, values, label=label, marker=marker)
