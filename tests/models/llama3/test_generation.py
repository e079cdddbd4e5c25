import pytest
import torch
from transformers import StaticCache

from ragkit.errors import ConfigError


@pytest.mark.parametrize("use_cache", [True, False])
@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
def test_greedy_tokens_equal_those_of_transformers(
    make_twins, random_ids, use_cache, implementation
):
    theirs, ours = make_twins(attn_implementation=implementation)
    ids = random_ids(3, 11)
    mask = torch.ones_like(ids)
    mask[0, :4] = mask[2, :7] = 0
    options = {"max_new_tokens": 13, "do_sample": False, "use_cache": use_cache, "pad_token_id": 0}

    expected = theirs.generate(ids, attention_mask=mask, **options)
    found = ours.generate(ids, attention_mask=mask, **options)

    assert torch.equal(found, expected)


def test_a_padded_batch_generates_what_each_prompt_generates_alone(make_twins, random_ids):
    _, ours = make_twins()
    prompts = [random_ids(1, length, seed=length) for length in (3, 8, 5)]
    batch, mask = torch.zeros(3, 8, dtype=torch.long), torch.zeros(3, 8, dtype=torch.long)
    for row, prompt in enumerate(prompts):
        batch[row, 8 - prompt.shape[1] :] = prompt
        mask[row, 8 - prompt.shape[1] :] = 1
    options = {"max_new_tokens": 12, "do_sample": False, "pad_token_id": 0}

    together = ours.generate(batch, attention_mask=mask, **options)[:, 8:]
    alone = [
        ours.generate(prompt, attention_mask=torch.ones_like(prompt), **options)[
            :, prompt.shape[1] :
        ]
        for prompt in prompts
    ]

    assert torch.equal(together, torch.cat(alone))


def test_a_static_cache_generates_the_same(make_twins, random_ids):
    _, ours = make_twins()
    ids = random_ids(3, 6)
    options = {"attention_mask": torch.ones_like(ids), "max_new_tokens": 9, "do_sample": False}
    cache = StaticCache(config=ours.config, max_cache_len=20)

    found = ours.generate(ids, past_key_values=cache, pad_token_id=0, **options)

    assert torch.equal(found, ours.generate(ids, pad_token_id=0, **options))


def test_beam_search_equals_that_of_transformers(make_twins, random_ids):
    theirs, ours = make_twins()
    ids = random_ids(2, 6)
    options = {"attention_mask": torch.ones_like(ids), "max_new_tokens": 9, "num_beams": 3}
    options |= {"do_sample": False, "pad_token_id": 0}

    assert torch.equal(ours.generate(ids, **options), theirs.generate(ids, **options))


def test_generation_beyond_the_context_is_refused(make_twins, random_ids):
    _, ours = make_twins(max_position_embeddings=10)
    ids = random_ids(1, 6)
    options = {"attention_mask": torch.ones_like(ids), "do_sample": False, "pad_token_id": 0}

    assert ours.generate(ids, max_new_tokens=5, **options).shape == (1, 11)
    with pytest.raises(ConfigError, match="what is to be generated"):
        ours.generate(ids, max_new_tokens=6, **options)
