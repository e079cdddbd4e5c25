"""The next-token loss, from logits or straight from hidden states."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

IGNORED_LABEL = -100
"""Label of a position that is no target, as everywhere in PyTorch."""

_SLICE_ELEMENTS = 1 << 21
_SLICE_ROWS = 256
_FLOAT_LOGITS = 1 << 25
"""Logits that `token_nats` turns into fp32 at a time: 128 MiB."""


def next_token_loss(
    logits: Tensor,
    labels: Tensor,
    *,
    num_items_in_batch: Tensor | int | None = None,
    z_loss_weight: float = 0.0,
) -> Tensor:
    """The sum of every target's negative log-likelihood in nats, over the number of targets.

    The softmax is float32. A batch without targets has loss 0.

    Args:
        logits: `[batch, seq, vocab]`.
        labels: `[batch, seq]`, not shifted: `labels[:, t]` is the target of `logits[:, t - 1]`;
            -100 where there is none.
        num_items_in_batch: Targets of the global batch, where this is a part of it; `None` for
            those of `labels`. 0 counts as 1, since it leaves nothing to divide.
        z_loss_weight: Weight of the squared log of the softmax's normaliser, which keeps logits
            from drifting (Chowdhery et al. 2022, arXiv:2204.02311, section 5).
    """
    targets = _shift(labels).flatten()
    scores = logits.flatten(0, 1).float()
    total = F.cross_entropy(scores, targets, ignore_index=IGNORED_LABEL, reduction="sum")
    if z_loss_weight:
        normaliser = scores[targets != IGNORED_LABEL].logsumexp(-1)
        total = total + z_loss_weight * normaliser.square().sum()
    return total / _divisor(targets, num_items_in_batch)


def projected_loss(
    head: nn.Module,
    hidden_states: Tensor,
    labels: Tensor,
    *,
    num_items_in_batch: Tensor | int | None = None,
    z_loss_weight: float = 0.0,
) -> Tensor:
    """`next_token_loss(head(hidden_states), labels)`, mostly without ever holding all logits.

    Of a plain linear `head`, logits exist for some rows at a time and only where there is a
    target. Their gradients are taken in the same pass, so nothing is computed twice; there is no
    second derivative. Any other head (quantised, adapted, sharded, hooked) is called.

    Args:
        head: The output projection.
        hidden_states: `[batch, seq, hidden]`.
        labels: As in `next_token_loss`, as are the rest.
    """
    weight = _plain_weight(head)
    if weight is None:
        logits = head(hidden_states)
        return next_token_loss(
            logits, labels, num_items_in_batch=num_items_in_batch, z_loss_weight=z_loss_weight
        )
    targets = _shift(labels)
    kept = targets != IGNORED_LABEL
    dtype, device = weight.dtype, hidden_states.device.type
    # Cast once here: within the function autocast would cast the weight anew for every slice.
    if torch.is_autocast_enabled(device):
        dtype = torch.get_autocast_dtype(device)
    rows, weight = hidden_states[kept].to(dtype), weight.to(dtype)
    total = _SlicedLoss.apply(rows, weight, targets[kept], z_loss_weight)  # type: ignore[no-untyped-call]
    return total / _divisor(targets, num_items_in_batch)


def token_nats(logits: Tensor, targets: Tensor) -> Tensor:
    """The negative log-likelihood of each target, fp32 `[batch, seq]`; 0 where it is ignored.

    Args:
        logits: `[batch, seq, vocab]`, of any dtype; the softmax is float32.
        targets: `[batch, seq]`: `targets[:, t]` is what `logits[:, t]` predict, or -100.
    """
    batch, _, vocab = logits.shape
    size = max(1, _FLOAT_LOGITS // (batch * vocab))
    parts = zip(logits.split(size, dim=1), targets.split(size, dim=1), strict=True)
    nats = [
        F.cross_entropy(part.float().flatten(0, 1), wanted.flatten(), reduction="none")
        for part, wanted in parts
    ]  # each [batch * chunk]
    return torch.cat([part.view(batch, -1) for part in nats], dim=1)


def _plain_weight(head: nn.Module) -> Tensor | None:
    """The weight of `head`, if calling it would do no more than multiply by it."""
    hooked = head._forward_hooks or head._forward_pre_hooks or "forward" in vars(head)
    if type(head) is not nn.Linear or hooked or len([*head.parameters()]) > 1:
        return None
    return head.weight if type(head.weight) is nn.Parameter else None  # a shard is another type


def _shift(labels: Tensor) -> Tensor:
    """The target of each position, `[batch, seq]`; the last has none."""
    return F.pad(labels[:, 1:], (0, 1), value=IGNORED_LABEL)


def _divisor(targets: Tensor, num_items_in_batch: Tensor | int | None) -> Tensor | int:
    if num_items_in_batch is None:
        num_items_in_batch = (targets != IGNORED_LABEL).sum()
    if isinstance(num_items_in_batch, Tensor):
        return num_items_in_batch.to(targets.device).clamp(min=1)
    return max(num_items_in_batch, 1)


class _SlicedLoss(torch.autograd.Function):
    """Sum of the losses of rows `[rows, hidden]`, and its gradients, slice by slice."""

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401 - torch gives it no public type
        rows: Tensor,
        weight: Tensor,
        targets: Tensor,
        z_loss_weight: float,
    ) -> Tensor:
        needs_rows, needs_weight, *_ = ctx.needs_input_grad
        rows_grad = torch.empty_like(rows) if needs_rows else None
        # Slices add up in float32 also where the weight is bfloat16.
        weight_grad = torch.zeros_like(weight, dtype=torch.float32) if needs_weight else None
        total = rows.new_zeros((), dtype=torch.float32)
        size = max(_SLICE_ROWS, _SLICE_ELEMENTS // len(weight))
        with torch.autocast(rows.device.type, enabled=False):
            for start in range(0, len(rows), size):
                part = slice(start, start + size)
                loss, scores_grad = _slice_loss(
                    rows[part] @ weight.T, targets[part, None], z_loss_weight
                )
                total += loss
                scores_grad = scores_grad.to(rows.dtype)
                if rows_grad is not None:
                    torch.mm(scores_grad, weight, out=rows_grad[part])
                if weight_grad is not None:
                    _add_product(weight_grad, scores_grad.T, rows[part])
        ctx.save_for_backward(rows_grad, weight_grad)
        ctx.weight_dtype = weight.dtype
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        rows_grad, weight_grad = ctx.saved_tensors
        if rows_grad is not None:
            rows_grad = rows_grad * grad
        if weight_grad is not None:
            weight_grad = (weight_grad * grad).to(ctx.weight_dtype)
        return rows_grad, weight_grad, None, None


def _slice_loss(scores: Tensor, targets: Tensor, z_loss_weight: float) -> tuple[Tensor, Tensor]:
    """The loss of some rows and its gradient with respect to their `scores` `[rows, vocab]`.

    Args:
        targets: `[rows, 1]`.
    """
    scores = scores.float()
    log_probs = scores.log_softmax(-1)
    target_log_probs = log_probs.gather(1, targets)
    loss = -target_log_probs.sum()
    grad = log_probs.exp_()
    if z_loss_weight:
        normaliser = scores.gather(1, targets) - target_log_probs  # [rows, 1]
        loss += z_loss_weight * normaliser.square().sum()
        grad *= 1 + 2 * z_loss_weight * normaliser
    return loss, grad.scatter_add_(1, targets, -torch.ones_like(target_log_probs))


def _add_product(total: Tensor, left: Tensor, right: Tensor) -> None:
    """Add `left @ right` to `total`, which may be of a wider type."""
    if total.dtype == right.dtype:
        total.addmm_(left, right)
    else:
        total += left @ right
