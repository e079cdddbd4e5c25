"""Decoder layers that `fully_shard` spreads over two gloo processes learn what whole ones do."""

import torch
from torch import distributed
from torch.distributed.fsdp import fully_shard

from ragkit.training import NextToken
from tests.training.launched import is_sharded
from tests.training.processes import run_together
from tests.training.tiny import collate, make_model, make_rows

NUM_STEPS, ROWS_PER_STEP = 3, 4
# Partial sums of gradients are added in another order: a few last bits of float32.
TOLERANCE = {"rtol": 1e-5, "atol": 1e-6}


def learn(model, *, rank=0, num_processes=1):
    """Losses of some updates with plain SGD, each over the same rows whatever the processes."""
    optimizer, objective = torch.optim.SGD(model.parameters(), lr=0.5), NextToken()
    losses = []
    for step in range(NUM_STEPS):
        rows = make_rows(ROWS_PER_STEP, seed=step)
        num_targets = objective.count_targets(collate(rows))
        batch = collate(rows[rank::num_processes])
        loss = objective.loss(model, batch, num_items_in_batch=num_targets)
        (loss * num_processes).backward()  # sharding takes the mean over processes
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.detach())
    return torch.stack(losses)


def learn_sharded(out):
    distributed.init_process_group("gloo")
    mesh = distributed.init_device_mesh("cpu", (distributed.get_world_size(),))
    model = make_model(num_hidden_layers=3)
    for layer in model.model.layers:
        fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)
    assert is_sharded(model)
    losses = learn(model, rank=distributed.get_rank(), num_processes=2)
    distributed.all_reduce(losses)
    weights = {name: tensor.full_tensor() for name, tensor in model.state_dict().items()}
    if distributed.get_rank() == 0:
        torch.save({"losses": losses, "weights": weights}, out)


def test_sharded_layers_have_the_losses_and_weights_of_whole_ones(tmp_path):
    out, model = tmp_path / "sharded.pt", make_model(num_hidden_layers=3)
    losses = learn(model)

    codes = run_together(2, learn_sharded, out)

    assert codes == [0, 0]
    found = torch.load(out, weights_only=True)
    torch.testing.assert_close(found["losses"], losses, **TOLERANCE)
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(found["weights"][name], tensor, **TOLERANCE)
