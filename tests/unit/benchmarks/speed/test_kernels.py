import pytest
import torch

from benchmarks.speed import kernels
from benchmarks.speed.kernel_rows import codes, images, sound, speech_recognition, talker
from benchmarks.speed.kernel_rows.contest import Contest, count_flops, inference, share_unequal


def contest(**changes):
    a = torch.ones(8, 8)
    defaults = {"case": "a", "ours": lambda: a, "peers": {"x": lambda: a, "y": lambda: a}, "aim": 1e-9}
    return Contest(**(defaults | changes))


def test_products_are_counted():
    a = torch.ones(4, 8)
    assert count_flops(inference(lambda: a @ a.T)) == 2 * 4 * 4 * 8


def test_quartiles_of_one_round_are_its_value():
    assert kernels.quartiles([2.0]) == [2.0, 2.0]
    assert kernels.quartiles([1.0, 2.0, 3.0, 4.0, 5.0]) == [2.0, 4.0]


def test_all_take_turns_and_every_round_counts():
    order = []
    calls = {name: lambda name=name: order.append(name) for name in "ab"}
    found = kernels.take_turns(calls, rounds=4, clock="wall", units=2)
    assert all(len(values) == 4 and min(values) > 0 for values in found.values())
    firsts = [name for number, name in enumerate(order) if number == 0 or order[number - 1] != name]
    assert firsts[2:4] == ["a", "b"]
    assert "b" in firsts[4:]


def test_what_gives_another_result_does_not_reach_its_aim():
    right = kernels.race("a", contest(difference=share_unequal), rounds=2, clock="wall")
    assert right["met"]
    assert right["same"]
    assert right["peer"] in ("x", "y")
    other = contest(peers={"x": lambda: torch.zeros(8, 8)}, difference=share_unequal)
    wrong = kernels.race("a", other, rounds=2, clock="wall")
    assert (wrong["met"], wrong["same"], wrong["difference"]) == (False, False, 1.0)
    assert "no: 1" in kernels.show([wrong])


def test_a_row_without_peers_says_why():
    row = kernels.race("a", contest(peers={}, absent={"x": "not installed: pip install x"}), rounds=1, clock="wall")
    assert (row["peer"], row["ratio"], row["met"]) == (None, None, None)
    assert "without x, not installed: pip install x" in kernels.show([row])


@pytest.mark.parametrize(
    "prepare",
    [sound.mel, sound.resampling, codes.rvq_decode, speech_recognition.loss_row],
    ids=lambda prepare: prepare.__name__,
)
def test_ours_gives_what_the_peers_give(prepare):
    row = prepare("nano")
    ours = row.ours()
    for name, peer in row.peers.items():
        assert row.difference(ours, peer()) <= row.tolerance, name


def test_the_talker_says_what_transformers_llama_says():
    pytest.importorskip("transformers", reason="pip install transformers")
    row = talker.frame("tiny")
    (peer,) = row.peers.values()
    assert torch.equal(row.ours(), peer())
    assert torch.equal(row.ours(), peer()), "the second call begins where the first did"


def test_the_image_encoder_is_transformers_vit():
    pytest.importorskip("transformers", reason="pip install transformers")
    row = images.vit("tiny")
    (peer,) = row.peers.values()
    torch.testing.assert_close(row.ours(), peer(), atol=1e-4, rtol=1e-4)
    with pytest.raises(ValueError, match="size=nano"):
        images.vit("nano")


def test_an_unknown_row_is_named():
    with pytest.raises(ValueError, match="rows=speed"):
        kernels.main(["rows=speed"])


@pytest.mark.slow
@pytest.mark.parametrize(
    "prepare", [speech_recognition.step_row, images.contrastive_step], ids=lambda prepare: prepare.__name__
)
def test_training_steps_run(prepare):
    row = prepare("tiny", compiled=False)
    for call in (row.ours, *row.peers.values()):
        call()
    assert row.flops > 0
