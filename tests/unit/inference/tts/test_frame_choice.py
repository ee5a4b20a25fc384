"""Which codes the Talker speaks: by hand."""

import pytest
import torch

from muomni.inference.decoding.sampling import uniforms
from muomni.inference.errors import InvalidOption
from muomni.inference.tts.frame_choice import FrameChooser, drawn, guided, penalised
from muomni.inference.tts.options import SpeechOptions, speech_options
from muomni.models.outputs import TalkerOutput


def said(*logits, stop=-1.0):
    """One text, one frame: the logits of each codebook."""
    return TalkerOutput(logits=torch.tensor([[list(logits)]]), stop=torch.tensor([[stop]]))


def test_guidance_goes_on_from_the_logits_without_the_text():
    text, blank = torch.tensor([1.0, 2.0, 0.0]), torch.tensor([2.0, 1.0, 0.5])
    assert guided(text, blank, 1.0).tolist() == text.tolist()
    assert guided(text, blank, 0.0).tolist() == blank.tolist()
    assert guided(text, blank, 3.0).tolist() == [-1.0, 4.0, -1.0]
    chooser = FrameChooser(SpeechOptions(guidance=3.0))
    blank = said([9.0, 4.0, 0.0], [1.0, 0.0, 0.0], stop=5.0)
    assert chooser(said([8.0, 7.0, 0.0], [0.0, 0.9, 0.0]), blank).tolist() == [[1, 1, 0]]  # 6, 13, 0 and -2, 2.7, 0
    assert chooser(said([8.0, 7.0, 0.0], [0.0, 0.9, 0.0], stop=0.5), blank)[0, -1] == 1, "the stop is the text's own"


def test_a_penalty_counts_the_codes_of_each_codebook_in_recent_frames():
    logits = torch.tensor([[[3.0, 2.0, 1.0], [3.0, 2.0, 1.0]]])
    recent = torch.tensor([[[0, 1], [0, 1], [2, 1]]])
    assert penalised(logits, recent, 0.5).tolist() == [[[2.0, 2.0, 0.5], [3.0, 0.5, 1.0]]]
    same = said([3.0, 2.0, 1.5])
    chooser = FrameChooser(SpeechOptions(code_penalty=0.9))
    codes = [int(chooser(same)[0, 0]) for _ in range(6)]
    # 3 2 1.5; 2.1 2 1.5; 1.2 2 1.5; 1.2 1.1 1.5; 1.2 1.1 .6; .3 1.1 .6
    assert codes == [0, 0, 1, 2, 0, 1]


def test_frames_long_ago_are_free_again_and_those_before_a_continuation_count():
    same = said([3.0, 2.0])
    chooser = FrameChooser(SpeechOptions(code_penalty=50.0))
    codes = [int(chooser(same)[0, 0]) for _ in range(11)]
    assert codes == [0, 1, 0, 1, 0, 1, 0, 1, 0, 0, 1], "the tenth: of the eight before it four have either code"
    zeros = torch.zeros(1, 8, 1, dtype=torch.long)
    assert FrameChooser(SpeechOptions(code_penalty=0.2), codes=zeros)(same)[0, 0] == 1  # 3 - 8 x .2
    assert FrameChooser(SpeechOptions(code_penalty=0.2), codes=torch.cat([zeros, zeros + 1], 1))(same)[0, 0] == 0
    assert FrameChooser(SpeechOptions(code_penalty=0.2), pace=2.0, codes=zeros[:, :4])(same)[0, 0] == 0
    four = torch.cat([zeros, zeros + 1], 1)
    assert FrameChooser(SpeechOptions(code_penalty=0.2), pace=2.0, codes=four).window == 16


def test_codes_are_drawn_by_seed_frame_and_codebook():
    probs = torch.tensor([0.1, 0.2, 0.7])
    logits = (probs.log() * 0.5).expand(2, 3, 3)
    codes = drawn(logits, temperature=0.5, seed=7, frame=11)
    assert torch.equal(codes[0], codes[1]), "a row is as it is alone"
    for k in range(3):
        number = float(uniforms(torch.tensor([7]), 11 * 3 + k))
        assert int(codes[0, k]) == sum(number >= edge for edge in (0.1, 0.3))
    many = [drawn(logits[:1], temperature=0.5, seed=seed, frame=0) for seed in range(400)]
    shares = torch.cat(many).flatten().bincount(minlength=3) / 1200
    assert (shares - probs).abs().max() < 0.05


def test_a_continuation_draws_on():
    options = SpeechOptions(code_temperature=2.0, code_seed=3)
    flat = said([0.0] * 50, [0.0] * 50)
    whole = FrameChooser(options)
    frames = torch.stack([whole(flat) for _ in range(6)], dim=1)
    later = FrameChooser(options, codes=frames[:, :4, :-1])
    assert torch.equal(torch.stack([later(flat), later(flat)], dim=1), frames[:, 4:])
    assert len({tuple(frame) for frame in frames[0].tolist()}) == 6


def test_without_options_the_most_likely_codes():
    assert SpeechOptions().is_greedy
    assert FrameChooser()(said([1.0, 5.0], [2.0, 0.0], stop=0.1)).tolist() == [[1, 0, 1]]


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"guidance": -1}, "guidance=-1: a number from 0 to 20 is needed"),
        ({"guidance": "much"}, "guidance=much: a number"),
        ({"guidance": True}, "guidance=True: a number"),
        ({"code_penalty": float("nan")}, "code_penalty=nan: a number from 0 to 100"),
        ({"code_temperature": 11}, "code_temperature=11: a number from 0 to 10"),
        ({"code_temperature": 1.0, "code_seed": 0.5}, r"code_seed=0\.5: a whole number"),
        ({"code_seed": 3}, "code_seed=3: without effect"),
        ({"temperature": 1.0}, "unknown option 'temperature' of speech; available: guidance, code_penalty"),
    ],
)
def test_what_is_no_option_is_one_line(given, reason):
    with pytest.raises(InvalidOption, match=reason) as caught:
        speech_options(given)
    assert caught.value.param in given
