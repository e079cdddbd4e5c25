import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model

from ragkit.data.collators import PackedCollator
from ragkit.data.packed import PackedRow
from ragkit.errors import CheckpointError, ConfigError, DataError, StorageError
from ragkit.evaluation.scoring import Row, score_batch, score_rows, score_tokens
from tests.evaluation.models import MAX_POSITION_EMBEDDINGS, VOCAB_SIZE, UnigramModel, tiny_llama

# Other kernels (masked attention, other batch shapes) add in another order.
ROUNDING = 1e-5


@pytest.fixture(scope="module")
def model():
    return tiny_llama()


def random_ids(*shape, seed=0):
    return torch.randint(VOCAB_SIZE, shape, generator=torch.Generator().manual_seed(seed))


def nats_of(model, ids):
    """The oracle: one forward over the whole row, `[rows, seq - 1]`."""
    with torch.no_grad():
        logits = model(ids).logits.double()
    picked = logits.log_softmax(-1)[:, :-1].gather(-1, ids[:, 1:, None])
    return -picked[..., 0].numpy()


def packed_batch(*, mask_documents):
    lengths = [[4, 7, 2], [13], [5, 3]]
    rows = [
        PackedRow(random_ids(sum(row), seed=i).numpy(), np.array(row), 13 - sum(row))
        for i, row in enumerate(lengths)
    ]
    return PackedCollator(pad_token_id=0, mask_documents=mask_documents)(rows)


def test_labels_choose_what_is_scored(model):
    ids = random_ids(3, 11)
    labels = torch.where(torch.rand(ids.shape) < 0.5, ids, -100)
    labels[:, 0] = ids[:, 0]

    with torch.no_grad():
        nats = score_batch(model, {"input_ids": ids, "labels": labels})

    expected = np.where(labels[:, 1:] != -100, nats_of(model, ids), 0)
    assert nats.shape == ids.shape
    assert not nats[:, 0].any()
    np.testing.assert_allclose(nats[:, 1:], expected, rtol=ROUNDING, atol=0)


def test_a_batch_without_labels_costs_no_forward():
    model = UnigramModel(torch.zeros(VOCAB_SIZE))
    ids = random_ids(2, 5)

    nats = score_batch(model, {"input_ids": ids, "labels": torch.full_like(ids, -100)})

    assert not nats.any()
    assert model.calls == 0


def test_all_positions_count_where_logits_exceed_a_chunk():
    vocab_size = 1 << 23
    model = UnigramModel(torch.zeros(1).expand(vocab_size))
    ids = torch.randint(vocab_size, (3, 4))

    nats = score_batch(model, {"input_ids": ids, "labels": ids})

    # All tokens are as likely; fp32 rounds the logarithm.
    np.testing.assert_allclose(nats[:, 1:], np.full((3, 3), 23 * np.log(2)), rtol=1e-6, atol=0)


def test_half_precision_logits_are_normalised_in_fp32(model):
    half = tiny_llama().to(torch.bfloat16)
    ids = random_ids(2, 9)

    with torch.no_grad():
        nats = score_batch(half, {"input_ids": ids, "labels": ids})

    assert nats.dtype == torch.float32
    np.testing.assert_allclose(nats[:, 1:], nats_of(half, ids), rtol=ROUNDING, atol=0)


@pytest.mark.parametrize("mask_documents", [True, False])
def test_packed_rows_score_as_the_loss_of_training(model, mask_documents):
    batch = packed_batch(mask_documents=mask_documents)
    num_items = (batch["labels"] != -100).sum()

    score = score_rows(model, [batch])

    with torch.no_grad():
        loss = model(**batch, num_items_in_batch=num_items, use_cache=False).loss
    assert score.num_tokens == num_items
    assert score.nll_per_token == pytest.approx(float(loss), rel=ROUNDING)


def test_masked_documents_score_as_if_alone(model):
    batch = packed_batch(mask_documents=True)
    alone = [
        nats_of(model, batch["input_ids"][i : i + 1, start:stop]).sum()
        for i, (start, stop) in [
            (0, (0, 4)),
            (0, (4, 11)),
            (0, (11, 13)),
            (1, (0, 13)),
            (2, (0, 5)),
            (2, (5, 8)),
        ]
    ]

    score = score_rows(model, [batch])

    assert score.nll_nats == pytest.approx(sum(alone), rel=ROUNDING)


def test_batches_add_up(model):
    batch = packed_batch(mask_documents=False)
    halves = [{name: x[rows] for name, x in batch.items()} for rows in ([0], [1, 2])]

    assert score_rows(model, halves).nll_nats == pytest.approx(
        score_rows(model, [batch]).nll_nats, rel=ROUNDING
    )


@pytest.mark.parametrize("batch_size", [1, 2, 7])
def test_padding_does_not_change_a_row(model, batch_size):
    lengths, firsts = [5, 12, 2, 9, 12], [1, 6, 1, 8, 1]
    rows = [
        Row(random_ids(length, seed=length).numpy(), first)
        for length, first in zip(lengths, firsts, strict=True)
    ]

    nats = score_tokens(model, rows, batch_size=batch_size, description="score")

    expected = [
        nats_of(model, torch.from_numpy(row.input_ids)[None])[0, row.first - 1 :].sum()
        for row in rows
    ]
    np.testing.assert_allclose(nats, expected, rtol=ROUNDING, atol=0)


def test_a_row_may_be_one_token_longer_than_the_context(model):
    seen = []
    hook = model.register_forward_pre_hook(
        lambda _, args, kwargs: seen.append(kwargs["input_ids"].shape[1]), with_kwargs=True
    )
    row = Row(random_ids(MAX_POSITION_EMBEDDINGS + 1).numpy(), 1)

    score_tokens(model, [row], batch_size=1, description="score")
    hook.remove()

    assert seen == [MAX_POSITION_EMBEDDINGS]


def test_only_the_scored_logits_are_computed(model):
    seen = []
    hook = model.lm_head.register_forward_hook(lambda _, __, logits: seen.append(logits.shape[1]))
    row = Row(random_ids(20).numpy(), 17)

    score_tokens(model, [row], batch_size=1, description="score")
    hook.remove()

    assert seen == [3]


def test_a_model_in_training_stays_so_and_drops_nothing_meanwhile():
    model = tiny_llama(attention_dropout=0.5).train()
    row = Row(random_ids(9).numpy(), 1)

    first, second = (
        score_tokens(model, [row], batch_size=1, description="score") for _ in range(2)
    )

    assert model.training
    np.testing.assert_array_equal(first, second)


def test_a_likelihood_that_is_not_finite_names_the_mend():
    model = UnigramModel(torch.full((VOCAB_SIZE,), torch.nan))
    row = Row(random_ids(4).numpy(), 1)

    with pytest.raises(CheckpointError, match="load it with dtype"):
        score_tokens(model, [row], batch_size=1, description="score")


def test_a_lack_of_memory_names_what_to_lower(model):
    hook = model.register_forward_pre_hook(lambda *_: torch.empty(1 << 60))
    row = Row(random_ids(4).numpy(), 1)

    with pytest.raises(StorageError, match="cpu ran out of memory: use a smaller batch_size"):
        score_tokens(model, [row], batch_size=1, description="score")
    hook.remove()


def test_a_model_within_adapters_computes_the_scored_logits_only():
    model = tiny_llama()
    adapted = get_peft_model(model, LoraConfig(r=2, target_modules=["q_proj"]))
    seen = []
    model.lm_head.register_forward_hook(lambda _, __, logits: seen.append(logits.shape[1]))
    row = Row(random_ids(20).numpy(), 17)

    score_tokens(adapted, [row], batch_size=1, description="score")

    assert seen == [3]


def test_batches_without_a_label_are_refused(model):
    ids = random_ids(2, 5)

    with pytest.raises(DataError, match="no label but -100"):
        score_rows(model, [{"input_ids": ids, "labels": torch.full_like(ids, -100)}])


def test_a_batch_of_no_row_is_refused(model):
    with pytest.raises(ConfigError, match="batch_size must be 1 or more"):
        score_tokens(model, [], batch_size=0, description="score")
