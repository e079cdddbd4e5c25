import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.autograd.graph import saved_tensors_hooks
from torch.testing import assert_close

from ragkit.nn.loss import next_token_loss, projected_loss

# Sums of some hundred float32 terms, taken in another order.
CLOSE = {"rtol": 1e-5, "atol": 1e-6}


def slow_loss(logits, labels, *, num_items=None, z_loss_weight=0.0):
    """Target by target, in float64."""
    terms = []
    for row in range(labels.shape[0]):
        for position in range(labels.shape[1] - 1):
            if (target := labels[row, position + 1].item()) != -100:
                scores = logits[row, position].double()
                normaliser = scores.exp().sum().log()
                terms.append(normaliser - scores[target] + z_loss_weight * normaliser**2)
    return sum(terms, torch.zeros(())) / (num_items or max(len(terms), 1))


def make_batch(*, batch=3, seq=7, hidden=6, vocab=11, seed=0, ignored=0.4):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(vocab, (batch, seq), generator=generator)
    labels[torch.rand(batch, seq, generator=generator) < ignored] = -100
    head = nn.Linear(hidden, vocab, bias=False)
    nn.init.normal_(head.weight, generator=generator)
    states = torch.randn(batch, seq, hidden, generator=generator, requires_grad=True)
    return states, head, labels


@settings(deadline=None)
@given(
    seed=st.integers(0, 99),
    num_items=st.one_of(st.none(), st.integers(1, 50)),
    z_loss_weight=st.sampled_from([0.0, 0.1]),
    ignored=st.sampled_from([0.0, 0.4, 1.0]),
)
def test_both_forms_equal_the_sum_over_targets(seed, num_items, z_loss_weight, ignored):
    states, head, labels = make_batch(seed=seed, ignored=ignored)
    expected = slow_loss(
        head(states), labels, num_items=num_items, z_loss_weight=z_loss_weight
    ).float()
    options = {"num_items_in_batch": num_items, "z_loss_weight": z_loss_weight}

    from_logits = next_token_loss(head(states), labels, **options)
    from_states = projected_loss(head, states, labels, **options)

    assert_close(from_logits, expected, **CLOSE)
    assert_close(from_states, expected, **CLOSE)


@pytest.mark.parametrize("z_loss_weight", [0.0, 0.1])
@pytest.mark.parametrize("sizes", [{}, {"seq": 201, "vocab": 8200}], ids=["one", "several slices"])
def test_both_forms_have_equal_gradients(z_loss_weight, sizes):
    states, head, labels = make_batch(**sizes)
    inputs = [states, head.weight]

    plain = next_token_loss(head(states), labels, z_loss_weight=z_loss_weight)
    expected = torch.autograd.grad(3 * plain, inputs)
    sliced = projected_loss(head, states, labels, z_loss_weight=z_loss_weight)
    found = torch.autograd.grad(3 * sliced, inputs)

    for gradient, other in zip(found, expected, strict=True):
        assert_close(gradient, other, **CLOSE)


def test_only_the_gradients_that_are_needed_are_taken():
    states, head, labels = make_batch()
    head.requires_grad_(False)

    projected_loss(head, states, labels).backward()

    assert states.grad is not None
    assert head.weight.grad is None


def test_nothing_as_large_as_the_logits_is_kept_for_the_backward_pass():
    states, head, labels = make_batch(seq=50, vocab=700, ignored=0.0)
    sizes = []

    def note_size(tensor):
        sizes.append(tensor.numel())
        return tensor

    with saved_tensors_hooks(note_size, lambda tensor: tensor):
        projected_loss(head, states, labels)

    assert max(sizes) == head.weight.numel() < 3 * 49 * 700


@pytest.mark.parametrize("num_items", [None, 9, 0, torch.tensor(9), torch.tensor(0)])
@pytest.mark.parametrize("z_loss_weight", [0.0, 0.1])
def test_a_batch_without_targets_has_no_loss_and_no_gradient(num_items, z_loss_weight):
    states, head, labels = make_batch(ignored=1.0)
    options = {"num_items_in_batch": num_items, "z_loss_weight": z_loss_weight}

    from_states = projected_loss(head, states, labels, **options)
    from_logits = next_token_loss(head(states), labels, **options)

    for loss in (from_states, from_logits):
        gradients = torch.autograd.grad(loss, [states, head.weight])

        assert loss == 0
        assert not any(gradient.any() for gradient in gradients)


def test_the_number_of_targets_may_be_a_tensor():
    states, head, labels = make_batch()

    by_tensor = projected_loss(head, states, labels, num_items_in_batch=torch.tensor(9))

    assert_close(by_tensor, projected_loss(head, states, labels, num_items_in_batch=9))


class ScaledLinear(nn.Linear):
    def forward(self, x):
        return 2 * super().forward(x)


def test_a_head_that_is_more_than_its_weight_is_called():
    states, plain, labels = make_batch()
    biased, scaled, hooked = (
        nn.Linear(6, 11),
        ScaledLinear(6, 11, bias=False),
        nn.Linear(6, 11, False),
    )
    hooked.register_forward_hook(lambda _module, _inputs, output: 2 * output)
    adapted = nn.Sequential(plain, nn.Tanh())

    for head in (biased, scaled, hooked, adapted):
        loss = projected_loss(head, states, labels)

        assert_close(loss, next_token_loss(head(states), labels), rtol=0, atol=0)


def test_bfloat16_weights_get_bfloat16_gradients_summed_in_float32():
    states, head, labels = make_batch(seq=201, vocab=8200)
    expected = torch.autograd.grad(projected_loss(head, states, labels), head.weight)[0]

    head, states = head.bfloat16(), states.detach().bfloat16().requires_grad_()
    found = torch.autograd.grad(projected_loss(head, states, labels), head.weight)[0]

    assert found.dtype == torch.bfloat16
    # Inputs and logits' gradients have 8 bits each; largest entries are near 0.01.
    assert_close(found.float(), expected, rtol=0.05, atol=1e-4)


def test_autocast_multiplies_in_bfloat16_and_returns_float32_gradients():
    states, head, labels = make_batch()
    expected = projected_loss(head, states, labels)

    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = projected_loss(head, states, labels)
    loss.backward()

    assert_close(loss, expected, rtol=0.02, atol=0)  # 8 bits
    assert not torch.equal(loss, expected)
    assert head.weight.grad.dtype == states.grad.dtype == torch.float32
