import pytest
import torch

from muomni.inference.sampling import PRESETS, Sampler, preset, probabilities
from muomni.special_tokens import EOS, IMAGE, PIECES

LOGITS = torch.tensor([[2.0, 1.5, 1.0, 0.5]])
OFF = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0}


@pytest.mark.parametrize(
    ("temperature", "expected"),
    [(1.0, [0.46, 0.28, 0.17, 0.10]), (0.5, [0.64, 0.24, 0.09, 0.03]), (2.0, [0.35, 0.27, 0.21, 0.17])],
)
def test_temperature_divides_the_logits(temperature, expected):
    shares = probabilities(LOGITS, **(OFF | {"temperature": temperature}))
    assert torch.allclose(shares, torch.tensor([expected]), atol=0.006)


def test_the_token_that_crosses_p_stays():
    kept = probabilities(LOGITS, **(OFF | {"top_p": 0.5}))
    assert torch.allclose(kept, torch.tensor([[0.6225, 0.3775, 0.0, 0.0]]), atol=1e-3)
    assert (probabilities(LOGITS, **(OFF | {"top_p": 0.4})) > 0).sum() == 1


def test_top_k_and_min_p_keep_the_best():
    assert (probabilities(LOGITS, **(OFF | {"top_k": 3})) > 0).tolist() == [[True, True, True, False]]
    assert (probabilities(LOGITS, **(OFF | {"min_p": 0.5})) > 0).tolist() == [[True, True, False, False]]
    assert torch.equal(probabilities(LOGITS, **(OFF | {"top_k": 9})), probabilities(LOGITS, **OFF))


def test_presets_are_the_published_ones():
    assert PRESETS["greedy"].is_greedy
    balanced, chat = PRESETS["balanced"], PRESETS["chat"]
    assert (balanced.temperature, balanced.top_k, balanced.top_p, balanced.max_new_tokens) == (0.7, 0, 0.9, 50)
    assert (chat.temperature, chat.top_k, chat.top_p, chat.max_new_tokens) == (0.8, 40, 0.95, 100)


def test_a_seed_repeats_and_another_differs():
    logits = torch.randn(64, 50, generator=torch.Generator().manual_seed(0))
    draws = [Sampler(preset("chat", seed=seed), device="cpu")(logits).tolist() for seed in (1, 1, 2)]
    assert draws[0] == draws[1] != draws[2]


def test_special_tokens_are_never_chosen_but_the_end():
    logits = torch.zeros(1, 20)
    logits[0, IMAGE], logits[0, 12] = 9.0, 1.0
    assert Sampler(preset("greedy"), device="cpu")(logits).tolist() == [12]
    logits[0, EOS] = 5.0
    assert Sampler(preset("greedy"), device="cpu")(logits).tolist() == [EOS]


def test_the_repetition_penalty_moves_on_and_spares_the_end():
    logits = torch.zeros(1, 20)
    logits[0, 12], logits[0, 13] = 2.0, 1.5
    sampler = Sampler(preset("greedy", repetition_penalty=2.0), device="cpu")
    sampler.note(torch.tensor([[EOS, 15]]), 20)
    assert [sampler(logits).item() for _ in range(3)] == [12, 13, 12]
    assert not sampler.seen[0, : len(PIECES)].any()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"temperature": -1.0}, "temperature"),
        ({"top_p": 0.0}, "top_p"),
        ({"stop": ("",)}, "stop"),
        ({"topp": 1}, "top_p"),
    ],
)
def test_wrong_options_are_refused_by_name(change, reason):
    with pytest.raises(ValueError, match=reason):
        preset("greedy", **change)


def test_an_unknown_preset_lists_the_known():
    with pytest.raises(ValueError, match="greedy, balanced, chat"):
        preset("wild")
