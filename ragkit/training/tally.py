"""What the lines of `metrics.jsonl` are made of."""

from dataclasses import asdict, dataclass
from typing import Any


@dataclass
class Tally:
    """Loss since the last line, and tokens since the first step.

    All values are Python numbers, so that JSON keeps them to the last bit.

    Args:
        last_loss: Of the last update.
    """

    num_tokens: int = 0
    nats: float = 0.0
    num_targets: int = 0
    last_loss: float = 0.0

    def add(self, *, loss_nats: float, num_targets: int, num_tokens: int) -> None:
        """Count an update.

        Args:
            loss_nats: Mean over the targets of the update.
        """
        self.last_loss = loss_nats
        self.nats += loss_nats * num_targets
        self.num_targets += num_targets
        self.num_tokens += num_tokens

    def take_loss(self) -> float:
        """Mean nats per target since it was last taken."""
        loss = self.nats / self.num_targets
        self.nats, self.num_targets = 0.0, 0
        return loss

    def state(self) -> dict[str, Any]:
        """What a checkpoint holds: `Tally(**state)` goes on."""
        return asdict(self)
