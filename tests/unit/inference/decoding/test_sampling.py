import pytest
import torch

from muomni.inference.decoding.options import PRESETS, preset
from muomni.inference.decoding.sampling import Sampler, filter_probs, sample_tokens, uniforms
from muomni.special_tokens import EOS, IMAGE, PIECES

LOGITS = torch.tensor([[2.0, 1.5, 1.0, 0.5]])
OFF = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0}


def probabilities(logits, **options):
    """The probabilities (B, V) that `sample_tokens` draws from."""
    probs, ids = filter_probs(logits, **options)
    if ids is not None:
        probs = torch.zeros_like(logits, dtype=probs.dtype).scatter(1, ids, probs)
    return probs / probs.sum(dim=1, keepdim=True)


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


def test_the_streams_of_chance_are_the_published_generators():
    """SplitMix64's first numbers of seed 1234567 (its reference implementation), by their upper 24 bits."""
    numbers = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431, 16408922859458223821]
    drawn = [float(uniforms(torch.tensor([1234567]), place)) for place in range(5)]
    assert drawn == [(number >> 40) / 2**24 for number in numbers]
    entered = uniforms(torch.tensor([1234567, 3]), torch.tensor(4))
    assert float(entered[0]) == drawn[4]


def test_chance_is_even():
    draws = torch.cat([uniforms(torch.arange(500), place) for place in range(100)])
    assert draws.min() >= 0 and draws.max() < 1
    counts = torch.histc(draws, bins=20, min=0, max=1)
    assert (counts / 50_000 - 0.05).abs().max() < 0.004  # four deviations
    assert abs(float(torch.corrcoef(torch.stack([draws[:-500], draws[500:]]))[0, 1])) < 0.02  # number to number
    assert abs(float(torch.corrcoef(torch.stack([draws[:-1], draws[1:]]))[0, 1])) < 0.02  # seed to seed


@pytest.mark.parametrize("change", [{}, {"top_k": 6}, {"top_p": 0.8}, {"min_p": 0.1}, {"top_k": 9, "top_p": 0.7}])
def test_draws_follow_the_probabilities(change):
    """20 000 draws of one distribution: no share is further off than four deviations, and what was dropped never comes."""
    logits = torch.cat([torch.full((9,), -9.0), torch.randn(15, generator=torch.Generator().manual_seed(0))])[None]
    options = preset("greedy", temperature=1.0, **change)
    rows = 20_000
    ids = sample_tokens(logits.expand(rows, -1), options=options, uniform=(torch.arange(rows) + 0.5) / rows)
    found = torch.bincount(ids, minlength=24) / rows
    logits[0, :2], logits[0, 3:9] = -torch.inf, -torch.inf
    expected = probabilities(logits, **(OFF | change))[0]
    assert (found[expected == 0] == 0).all()
    assert (found - expected).abs().max() < 2 / rows


def test_a_row_draws_what_it_draws_alone():
    logits = torch.randn(5, 50, generator=torch.Generator().manual_seed(0))
    together = Sampler(preset("chat", seed=7), device="cpu")
    alone = [Sampler(preset("chat", seed=7 + row), device="cpu") for row in range(5)]
    for _ in range(10):
        assert together(logits).tolist() == [int(alone[row](logits[row : row + 1])) for row in range(5)]


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
        ({"temperature": -1.0}, "temperature=-1.0 is out of its range: 0"),
        ({"temperature": float("nan")}, "temperature=nan"),
        ({"temperature": "hot"}, "temperature=hot"),
        ({"top_p": 0.0}, "top_p=0.0"),
        ({"top_p": 2}, "top_p=2"),
        ({"top_k": 1.5}, "top_k=1.5"),
        ({"top_k": True}, "top_k=True"),
        ({"max_new_tokens": 0}, "max_new_tokens=0"),
        ({"seed": -1}, "seed=-1"),
        ({"seed": 2**63}, "seed="),
        ({"stop": ("",)}, "stop"),
        ({"stop": (3,)}, "stop"),
        ({"topp": 1}, "top_p"),
    ],
)
def test_wrong_options_are_refused_by_name(change, reason):
    with pytest.raises(ValueError, match=reason):
        preset("greedy", **change)


def test_an_unknown_preset_lists_the_known():
    with pytest.raises(ValueError, match="greedy, balanced, chat, beam"):
        preset("wild")
