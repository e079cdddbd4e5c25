import logging

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import LoraConfig, get_peft_model
from transformers import (
    BloomConfig,
    BloomForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
)

from ragkit.decoding.continuation_scores import TargetPair, TargetScorer, score_targets
from ragkit.errors import ConfigError, DataError, StorageError
from ragkit.models.llama3 import Llama3Config, Llama3ForCausalLM
from tests.decoding.tiny import CONTEXT, tiny_llama

# Masked attention and other batch shapes add in another order.
ROUNDING = {"rtol": 1e-5, "atol": 1e-5}
VOCAB = 293
SIZES = {
    "vocab_size": VOCAB,
    "hidden_size": 24,
    "num_attention_heads": 6,
    "num_hidden_layers": 2,
    "initializer_range": 0.4,
}


def tiny_ours():
    torch.manual_seed(0)
    config = Llama3Config(
        **SIZES, num_key_value_heads=2, intermediate_size=40, max_position_embeddings=CONTEXT
    )
    return Llama3ForCausalLM(config).eval()


def tiny_gpt2():
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=VOCAB, n_embd=24, n_head=6, n_layer=2, n_positions=CONTEXT, initializer_range=0.4
    )
    return GPT2LMHeadModel(config).eval()


def tiny_bloom():
    torch.manual_seed(0)
    config = BloomConfig(
        vocab_size=VOCAB, hidden_size=24, n_head=6, n_layer=2, initializer_range=0.4
    )
    return BloomForCausalLM(config).eval()


def tiny_mistral(*, sliding_window):
    torch.manual_seed(0)
    config = MistralConfig(
        **SIZES,
        num_key_value_heads=2,
        intermediate_size=40,
        max_position_embeddings=CONTEXT,
        sliding_window=sliding_window,
    )
    return MistralForCausalLM(config).eval()


class MaskIgnoringLlama(LlamaForCausalLM):
    """Lets each token read all that precedes it in its row, as a recurrent model does."""

    def forward(self, input_ids, attention_mask=None, position_ids=None, **kwargs):
        return super().forward(input_ids, position_ids=position_ids, **kwargs)


MODELS = {"ours": tiny_ours, "llama": tiny_llama, "gpt2": tiny_gpt2}


@pytest.fixture(scope="module")
def model():
    return tiny_llama()


def random_pair(prefix, suffix, target, *, seed):
    """A pair of these lengths; prefixes of one length are equal."""
    draw = torch.Generator().manual_seed(prefix)
    shared = torch.randint(VOCAB, (prefix,), generator=draw)
    draw = torch.Generator().manual_seed(1000 + seed)
    rest = torch.randint(VOCAB, (suffix + target,), generator=draw).tolist()
    return TargetPair(tuple(shared.tolist()), tuple(rest[:suffix]), tuple(rest[suffix:]))


def random_pairs(*lengths):
    return [random_pair(*each, seed=i) for i, each in enumerate(lengths)]


PAIRS = random_pairs(
    (11, 5, 3), (7, 4, 2), (11, 2, 1), (11, 6, 5), (13, 3, 4), (7, 4, 6), (11, 0, 3), (0, 8, 2)
)


def naive_scores(model, pairs):
    """The oracle: one forward over each whole text, with the logits of all positions."""
    sums = []
    for pair in pairs:
        ids = torch.tensor([pair.prefix + pair.suffix + pair.target])
        with torch.no_grad():
            log_probs = model(ids).logits.double().log_softmax(-1)[0, :-1]
        count = len(pair.target)
        sums.append(log_probs[-count:].gather(1, ids[0, -count:, None]).sum().item())
    return np.array(sums)


def forward_sizes(model, pairs, **options):
    """Rows and tokens of each forward pass, after the probe of the model."""
    scorer, sizes = TargetScorer(model, **options), []
    hook = model.register_forward_pre_hook(
        lambda _, args, kwargs: sizes.append(tuple(kwargs["input_ids"].shape)), with_kwargs=True
    )
    for _ in scorer.batches(pairs):
        pass
    hook.remove()
    return sizes


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("batch_tokens", [1, 40, 1000])
def test_scores_equal_one_full_forward_for_each_pair(name, batch_tokens):
    model = MODELS[name]()

    scores = score_targets(model, PAIRS, batch_tokens=batch_tokens)

    np.testing.assert_allclose(scores.sum_logprob, naive_scores(model, PAIRS), **ROUNDING)
    np.testing.assert_array_equal(scores.num_tokens, [3, 2, 1, 5, 4, 6, 3, 2])
    assert scores.sum_logprob.dtype == np.float32


@settings(max_examples=25, deadline=None)
@given(
    lengths=st.lists(
        st.tuples(st.sampled_from([1, 6, 17]), st.integers(0, 9), st.integers(1, 7)),
        min_size=1,
        max_size=12,
    ),
    batch_tokens=st.integers(1, 200),
)
def test_any_lengths_and_batches_give_the_same_scores(model, lengths, batch_tokens):
    pairs = random_pairs(*lengths)

    scores = score_targets(model, pairs, batch_tokens=batch_tokens)

    np.testing.assert_allclose(scores.sum_logprob, naive_scores(model, pairs), **ROUNDING)


def test_eager_attention_takes_the_same_rows(model):
    eager = tiny_llama()
    eager.set_attn_implementation("eager")

    scores = score_targets(eager, PAIRS)

    assert TargetScorer(eager).shares_prefixes
    np.testing.assert_allclose(scores.sum_logprob, naive_scores(model, PAIRS), **ROUNDING)


@pytest.mark.parametrize("name", MODELS)
def test_equal_prefixes_are_read_once(name):
    pairs = random_pairs(*[(20, 3, 2)] * 4)

    sizes = forward_sizes(MODELS[name](), pairs, batch_tokens=500)

    assert sizes == [(1, 20 + 4 * (3 + 2 - 1))]


def test_prefixes_are_read_again_where_the_row_would_be_longer_than_the_context():
    pairs = random_pairs(*[(60, 10, 1)] * 5)

    sizes = forward_sizes(tiny_ours(), pairs, batch_tokens=500)

    # 96 positions hold the prefix and 3 branches of 10; the other row has 2 of them.
    assert sizes == [(2, 60 + 3 * 10)]


def test_only_positions_that_predict_a_target_are_projected(model):
    scorer, seen = TargetScorer(model), []
    hook = model.lm_head.register_forward_hook(lambda _, __, logits: seen.append(logits.shape))

    for _ in scorer.batches(PAIRS):
        pass
    hook.remove()

    assert sum(shape[1] for shape in seen) == sum(len(pair.target) for pair in PAIRS)


def test_the_head_projects_everything_again_afterwards(model):
    before = model(torch.tensor([[3, 4, 5]])).logits

    score_targets(model, PAIRS)

    torch.testing.assert_close(model(torch.tensor([[3, 4, 5]])).logits, before, rtol=0, atol=0)


def test_half_precision_logits_are_normalised_in_fp32():
    half = tiny_llama().to(torch.bfloat16)
    pairs = random_pairs(*[(0, 9, 3)] * 5)

    scores = score_targets(half, pairs)

    # A bfloat16 sum would be off by 2**-8 of itself.
    np.testing.assert_allclose(scores.sum_logprob, naive_scores(half, pairs), rtol=1e-4, atol=0)


def test_a_model_within_adapters_shares_prefixes():
    model = get_peft_model(
        tiny_llama(), LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False)
    ).eval()

    scores = score_targets(model, PAIRS)

    assert TargetScorer(model).shares_prefixes
    np.testing.assert_allclose(scores.sum_logprob, naive_scores(model, PAIRS), **ROUNDING)


def test_a_model_in_training_stays_so_and_drops_nothing_meanwhile():
    model = tiny_llama(attention_dropout=0.5).train()

    first, second = (score_targets(model, PAIRS).sum_logprob for _ in range(2))

    assert model.training
    np.testing.assert_array_equal(first, second)


def test_between_batches_the_model_is_as_it_was():
    model = tiny_llama().train()

    for _ in TargetScorer(model, batch_tokens=1).batches(PAIRS):
        assert model.training
        assert torch.is_grad_enabled()


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (tiny_bloom, "takes no position_ids"),
        (lambda: MaskIgnoringLlama(tiny_llama().config).eval(), "they change one another"),
    ],
)
def test_a_model_that_cannot_share_prefixes_says_why_and_scores_alike(make, reason, caplog):
    model = make()

    with caplog.at_level(logging.WARNING):
        scores = score_targets(model, PAIRS)

    assert reason in caplog.text
    np.testing.assert_allclose(scores.sum_logprob, naive_scores(model, PAIRS), **ROUNDING)


@pytest.mark.parametrize("sliding_window", [6, 40])
def test_a_sliding_window_is_kept(sliding_window):
    model = tiny_mistral(sliding_window=sliding_window)

    scores = score_targets(model, PAIRS)

    np.testing.assert_allclose(scores.sum_logprob, naive_scores(model, PAIRS), **ROUNDING)


def test_a_likelihood_that_is_not_finite_stays_with_its_pair(model):
    broken = tiny_llama()
    pairs = random_pairs((4, 3, 2), (9, 3, 2))
    with torch.no_grad():
        broken.model.embed_tokens.weight[pairs[0].prefix[0]] = torch.nan

    scores = score_targets(broken, pairs)

    np.testing.assert_array_equal(np.isfinite(scores.sum_logprob), [False, True])


def test_no_pair_has_no_scores(model):
    scores = score_targets(model, [])

    assert scores.sum_logprob.shape == scores.num_tokens.shape == (0,)


def test_a_batch_without_tokens_is_refused(model):
    with pytest.raises(ConfigError, match="batch_tokens must be 1 or more"):
        score_targets(model, PAIRS, batch_tokens=0)


@pytest.mark.parametrize("pair", [TargetPair((3,), (4,), ()), TargetPair((), (), (5,))])
def test_a_pair_without_target_or_text_before_it_is_refused(model, pair):
    with pytest.raises(DataError, match="expected at least one of each"):
        score_targets(model, [pair])


def test_a_text_that_exceeds_the_context_is_refused(model):
    fits, exceeds = random_pairs((90, 3, 4), (90, 3, 5))

    score_targets(model, [fits])

    with pytest.raises(DataError, match="cut its prefix or suffix"):
        score_targets(model, [exceeds])


def test_a_lack_of_memory_names_what_to_lower(model):
    scorer = TargetScorer(model)
    hook = model.register_forward_pre_hook(lambda *_: torch.empty(1 << 60))

    with pytest.raises(StorageError, match="use a smaller batch_tokens"):
        list(scorer.batches(PAIRS))
    hook.remove()
