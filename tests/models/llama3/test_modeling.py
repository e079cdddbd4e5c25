import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file
from torch.testing import assert_close
from transformers import AutoModel, AutoModelForCausalLM

from ragkit.errors import ConfigError
from ragkit.models import Llama3Config, Llama3ForCausalLM, Llama3Model

# Sums of a few dozen float32 products, taken in another order, differ in the last bits.
CLOSE = {"rtol": 1e-5, "atol": 1e-5}
DOCUMENTS = (5, 1, 7)


def relative_difference(found, expected):
    return ((found - expected).abs().max() / expected.abs().max()).item()


def restarting_positions(lengths):
    return torch.cat([torch.arange(length) for length in lengths])[None]


@st.composite
def architectures(draw):
    key_value_heads, groups = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    heads = key_value_heads * groups
    rope = {
        "default": {},
        "linear": {"factor": 2.0},
        "yarn": {"factor": 4.0, "original_max_position_embeddings": 16},
        "llama3": {
            "factor": draw(st.sampled_from([8.0, 32.0])),
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 16,
        },
    }
    rope_type = draw(st.sampled_from(sorted(rope)))
    return {
        "num_attention_heads": heads,
        "num_key_value_heads": key_value_heads,
        "hidden_size": heads * draw(st.sampled_from([2, 4, 6])),
        "head_dim": draw(st.sampled_from([None, 8])),
        "num_hidden_layers": draw(st.integers(1, 3)),
        "tie_word_embeddings": draw(st.booleans()),
        "attention_bias": draw(st.booleans()),
        "mlp_bias": draw(st.booleans()),
        "rope_parameters": {"rope_type": rope_type, "rope_theta": 500.0, **rope[rope_type]},
    }


def fitted(architecture):
    """Without a `head_dim` of its own, heads share the width, which must leave them even."""
    head_dim = architecture["hidden_size"] // architecture["num_attention_heads"]
    return {**architecture, "head_dim": architecture["head_dim"] or head_dim}


@settings(max_examples=15, deadline=None)
@given(architecture=architectures(), seed=st.integers(0, 99))
def test_logits_loss_and_gradients_equal_those_of_transformers(
    make_twins, random_ids, architecture, seed
):
    theirs, ours = make_twins(seed=seed, **fitted(architecture))
    ids = random_ids(3, 17, seed=seed)

    expected, found = theirs(ids, labels=ids), ours(ids, labels=ids)
    ours.train()
    trained = ours(ids, labels=ids)
    expected.loss.backward()
    trained.loss.backward()

    assert relative_difference(found.logits, expected.logits) < 1e-5
    assert_close(found.loss, expected.loss, **CLOSE)
    assert_close(trained.loss, expected.loss, **CLOSE)
    gradients = dict(theirs.named_parameters())
    for name, parameter in ours.named_parameters():
        assert relative_difference(parameter.grad, gradients[name].grad) < 1e-4, name


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
def test_padding_on_the_left_changes_no_logit(make_twins, random_ids, implementation):
    _, ours = make_twins(attn_implementation=implementation)
    ids = random_ids(1, 9)
    padded = torch.cat([torch.zeros(1, 4, dtype=torch.long), ids], dim=1)
    mask = (torch.arange(13) >= 4).long()[None]
    positions = (mask.cumsum(-1) - 1).clamp(min=0)

    alone = ours(ids).logits
    found = ours(padded, attention_mask=mask, position_ids=positions).logits[:, 4:]

    assert_close(found, alone, **CLOSE)


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
@pytest.mark.parametrize("training", [False, True])
def test_packed_documents_have_the_logits_of_documents_alone(
    make_twins, random_ids, implementation, training
):
    _, ours = make_twins(attn_implementation=implementation)
    ours.train(training)
    ids = random_ids(1, sum(DOCUMENTS))

    packed = ours(ids, position_ids=restarting_positions(DOCUMENTS)).logits
    alone = torch.cat([ours(part).logits for part in ids.split(DOCUMENTS, dim=1)], dim=1)

    assert_close(packed, alone, **CLOSE)
    assert not torch.allclose(packed, ours(ids).logits, atol=1e-2)


def test_packed_documents_have_the_gradients_of_documents_alone(make_twins, random_ids):
    _, ours = make_twins()
    ours.train()
    ids = random_ids(1, sum(DOCUMENTS))
    labels = torch.cat(
        [part.index_fill(1, torch.tensor([0]), -100) for part in ids.split(DOCUMENTS, 1)], 1
    )
    targets = sum(DOCUMENTS) - len(DOCUMENTS)

    ours(ids, labels=labels, position_ids=restarting_positions(DOCUMENTS)).loss.backward()
    packed = {name: parameter.grad.clone() for name, parameter in ours.named_parameters()}
    ours.zero_grad()
    for part in ids.split(DOCUMENTS, dim=1):
        ours(part, labels=part, num_items_in_batch=targets).loss.backward()

    for name, parameter in ours.named_parameters():
        assert_close(packed[name], parameter.grad, **CLOSE)


def test_packed_rows_equal_those_of_transformers(make_twins, random_ids):
    theirs, ours = make_twins()
    ids = random_ids(3, 13)
    rows = [(5, 1, 7), (13,), (2, 11)]
    positions = torch.cat([restarting_positions(row) for row in rows])

    expected = theirs(ids, position_ids=positions, use_cache=False).logits

    assert relative_difference(ours(ids, position_ids=positions).logits, expected) < 1e-5


def test_a_cache_gives_the_logits_of_the_whole(make_twins, random_ids):
    _, ours = make_twins()
    ids = random_ids(3, 17)

    whole = ours(ids).logits
    first = ours(ids[:, :6])
    second = ours(ids[:, 6:16], past_key_values=first.past_key_values)
    last = ours(ids[:, 16:], past_key_values=second.past_key_values)

    assert_close(torch.cat([first.logits, second.logits, last.logits], dim=1), whole, **CLOSE)


def test_training_keeps_no_cache_unless_asked(make_twins, random_ids):
    _, ours = make_twins()
    ids = random_ids(3, 5)

    assert ours(ids).past_key_values is not None
    ours.train()
    assert ours(ids).past_key_values is None
    assert ours(ids, use_cache=True).past_key_values is not None


def test_a_training_step_returns_no_logits_and_all_else_does(make_twins, random_ids):
    _, ours = make_twins()
    ids = random_ids(3, 5)

    assert ours(ids, labels=ids).logits is not None
    ours.train()
    assert ours(ids, labels=ids).logits is None
    assert ours(ids).logits is not None
    with torch.no_grad():
        assert ours(ids, labels=ids).logits is not None


@pytest.mark.parametrize("training", [True, False])
def test_a_loss_without_logits_is_the_same(make_twins, random_ids, training):
    _, ours = make_twins()
    ids = random_ids(2, 7)
    ours.train(training)

    with torch.no_grad():
        whole, skipped = (ours(ids, labels=ids, skip_logits=skip) for skip in (False, True))

    assert (whole.logits is None, skipped.logits is None) == (False, True)
    torch.testing.assert_close(skipped.loss, whole.loss)  # fp32 sums in another order


def test_logits_to_keep_are_the_last(make_twins, random_ids):
    _, ours = make_twins()
    ids = random_ids(3, 7)

    assert_close(ours(ids, logits_to_keep=2).logits, ours(ids).logits[:, -2:], **CLOSE)


def test_logits_to_keep_with_labels_is_refused(make_twins, random_ids):
    _, ours = make_twins()
    ids = random_ids(3, 7)

    with pytest.raises(ConfigError, match="leave it out"):
        ours(ids, labels=ids, logits_to_keep=1)


def test_embeddings_take_the_place_of_ids(make_twins, random_ids):
    _, ours = make_twins()
    ids = random_ids(3, 7)
    embeddings = ours.get_input_embeddings()(ids)

    assert_close(ours(inputs_embeds=embeddings).logits, ours(ids).logits, rtol=0, atol=0)
    with pytest.raises(ConfigError, match="give one"):
        ours(ids, inputs_embeds=embeddings)


def test_input_beyond_the_context_is_refused_with_the_mend(make_twins, random_ids):
    _, ours = make_twins(max_position_embeddings=12)
    full = ours(random_ids(1, 12))

    with pytest.raises(ConfigError, match=r"13 tokens exceed max_position_embeddings 12: shorten"):
        ours(random_ids(1, 13))
    with pytest.raises(ConfigError, match="13 tokens"):
        ours(random_ids(1, 1), past_key_values=full.past_key_values)


def test_loss_counts_the_targets_of_the_global_batch(make_twins, random_ids):
    theirs, ours = make_twins()
    ids = random_ids(3, 7)
    ours.train()

    halves = [ours(part, labels=part, num_items_in_batch=18).loss for part in ids.split((1, 2))]

    assert_close(sum(halves), theirs(ids, labels=ids).loss, **CLOSE)


@pytest.mark.parametrize("tied", [False, True])
def test_weights_that_are_saved_come_back_exactly(make_twins, tmp_path, tied):
    _, ours = make_twins(tie_word_embeddings=tied)
    expected = ours.state_dict()

    ours.save_pretrained(tmp_path)
    again = AutoModelForCausalLM.from_pretrained(tmp_path)

    # Tied weights are one tensor, in the file and in the model.
    saved = load_file(tmp_path / "model.safetensors").keys()
    assert expected.keys() - saved == ({"lm_head.weight"} if tied else set())
    assert (again.lm_head.weight is again.model.embed_tokens.weight) == tied
    assert again.state_dict().keys() == expected.keys()
    for name, weight in again.state_dict().items():
        assert_close(weight, expected[name], rtol=0, atol=0)


def test_a_saved_model_is_loaded_by_the_auto_classes(make_twins, random_ids, tmp_path):
    _, ours = make_twins()
    ids = random_ids(3, 7)

    ours.save_pretrained(tmp_path)
    again = AutoModelForCausalLM.from_pretrained(tmp_path)

    assert type(again) is Llama3ForCausalLM
    assert type(AutoModel.from_pretrained(tmp_path)) is Llama3Model
    assert sorted(path.name for path in tmp_path.glob("*.*")) == [
        "config.json",
        "generation_config.json",
        "model.safetensors",
    ]
    assert_close(again(ids).logits, ours(ids).logits, rtol=0, atol=0)


def test_new_weights_have_the_spread_of_the_configuration(tiny_llama_config):
    torch.manual_seed(0)
    config = Llama3Config.from_llama(
        tiny_llama_config(hidden_size=96, intermediate_size=200, initializer_range=0.05)
    )

    model = Llama3ForCausalLM(config)

    # The standard deviation of 9,000 and more normal numbers is known to 1 %.
    assert model.lm_head.weight.std().item() == pytest.approx(0.05, rel=0.03)
    assert model.model.layers[0].mlp.up_proj.weight.std().item() == pytest.approx(0.05, rel=0.03)
    assert torch.equal(model.model.norm.weight, torch.ones(96))


def test_activation_checkpointing_gives_equal_gradients(make_twins, random_ids):
    _, ours = make_twins()
    ids = random_ids(3, 7)
    ours.train()

    ours(ids, labels=ids).loss.backward()
    expected = {name: parameter.grad.clone() for name, parameter in ours.named_parameters()}
    ours.zero_grad()
    ours.activation_checkpointing_enable()
    ours(ids, labels=ids).loss.backward()

    for name, parameter in ours.named_parameters():
        assert_close(parameter.grad, expected[name], rtol=0, atol=0)


def test_lora_finds_the_same_targets_as_in_transformers_llama(make_twins):
    names = []
    for model in make_twins():
        adapted = get_peft_model(model, LoraConfig(r=2, task_type="CAUSAL_LM"))
        names.append([name for name, _ in adapted.named_parameters() if "lora_" in name])

    assert names[0] == names[1]
    assert len(names[0]) == 2 * 2 * 2  # layers, projections, factors


@pytest.mark.parametrize("targets", [["q_proj", "v_proj"], ["down_proj", "lm_head"]])
def test_lora_trains_its_own_parameters_only(make_twins, random_ids, targets):
    _, ours = make_twins()
    ids = random_ids(3, 7)
    model = get_peft_model(ours, LoraConfig(r=2, target_modules=targets, task_type="CAUSAL_LM"))
    model.train()
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.05)

    losses = []
    for _ in range(3):
        optimizer.zero_grad()
        loss = model(input_ids=ids, labels=ids).loss
        loss.backward()
        optimizer.step()
        losses.append(loss.item())

    assert losses[2] < losses[0]
    trained = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    assert {name.split(".lora_")[0].rsplit(".", 1)[1] for name in trained} == set(targets)


def test_autocast_trains_in_bfloat16_as_transformers_does(make_twins, random_ids):
    theirs, ours = make_twins()
    ids = random_ids(3, 7)
    theirs.train(), ours.train()

    for model in (theirs, ours):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = model(ids, labels=ids).loss
        loss.backward()

    assert ours.lm_head.weight.grad.dtype == torch.float32
    # bfloat16 keeps 8 bits; the two round the logits' gradients at different places.
    assert_close(ours.lm_head.weight.grad, theirs.lm_head.weight.grad, rtol=0.05, atol=0.02)


def test_a_cast_to_bfloat16_keeps_the_rotary_frequencies(make_twins):
    _, ours = make_twins()
    frequencies = ours.model.rotary_emb.inv_freq.clone()

    ours.to(torch.bfloat16)

    assert ours.lm_head.weight.dtype == torch.bfloat16
    assert_close(ours.model.rotary_emb.inv_freq, frequencies, rtol=0, atol=0)


def test_hidden_states_and_attentions_are_given_on_request(make_twins, random_ids):
    theirs, ours = make_twins(attn_implementation="eager")
    ids = random_ids(3, 7)

    expected = theirs(ids, output_hidden_states=True, output_attentions=True)
    found = ours(ids, output_hidden_states=True, output_attentions=True)

    assert len(found.hidden_states) == len(expected.hidden_states) == 3
    for ours_state, state in zip(found.hidden_states, expected.hidden_states, strict=True):
        assert_close(ours_state, state, **CLOSE)
    for ours_weights, weights in zip(found.attentions, expected.attentions, strict=True):
        assert_close(ours_weights, weights, **CLOSE)
