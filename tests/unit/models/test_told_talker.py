"""A Talker that is told the states of a Thinker: what each state changes, and that the default is what it was."""

import pytest
import torch

from muomni.models.talker import Talker
from tests.unit.models.test_talker import SMALL, build, inputs

H = 12


def told(conditioning, **options):
    return build(conditioning=conditioning, state_width=H, **options)


def states(seed=1):
    """Of two texts of nine and six characters, zeros after the second."""
    drawn = torch.randn(2, 9, H, generator=torch.Generator().manual_seed(seed))
    drawn[1, 6:] = 0
    return drawn


def test_by_default_it_has_the_weights_of_before():
    plain = build()
    assert plain.options["conditioning"] == "text" and plain.options["state_width"] == 0
    assert not [key for key in plain.state_dict() if "states" in key]
    both = told("both")
    added = {"text.states.norm.weight", "text.states.proj.weight"}
    assert both.state_dict().keys() - plain.state_dict().keys() == added
    for key, value in plain.state_dict().items():
        if value.dim() == 1 or "embedding" not in key:
            continue
        assert value.shape == both.state_dict()[key].shape


@pytest.mark.parametrize("conditioning", ["hidden", "both"])
@pytest.mark.parametrize("alignment", ["free", "durations"])
@torch.no_grad()
def test_a_state_changes_its_own_character_and_no_other(conditioning, alignment):
    """Without layers that mix neighbours. What changes is what the projection makes of it, by hand."""
    talker = told(conditioning, alignment=alignment, text_layers=0)
    text, lengths, _, speakers = inputs()
    before, changed = states(), states()
    changed[0, 4] = torch.randn(H)
    first, second = (talker.read(text, lengths, speakers, states=each).units for each in (before, changed))
    differ = (first != second).any(-1)
    place = 4 + (alignment == "durations")  # after the silence before the text
    assert differ[0, place] and differ.sum() == 1
    layer, embedding = talker.text.states, talker.text.embedding.weight
    normed = changed[0, 4] / (changed[0, 4].square().mean() + 1e-5).sqrt() * layer.norm.weight
    own = embedding[text[0, 4]] if conditioning == "both" else embedding[0]
    x = layer.proj.weight @ normed + own + talker.text.speaker.weight[0]
    torch.testing.assert_close(second[0, place], talker.text.norm(x))


@torch.no_grad()
def test_hidden_reads_no_letters_but_knows_silences():
    text, lengths, _, speakers = inputs()
    other = text.clone()
    other[:, 2] = text[:, 2] % 90 + 1
    for alignment in ("free", "durations"):
        talker = told("hidden", alignment=alignment)
        same = [talker.read(each, lengths, speakers, states=states()).units for each in (text, other)]
        assert torch.equal(*same)
        assert len(talker.text.embedding.weight) == (1 if alignment == "free" else 3)
    both = told("both")
    differ = [both.read(each, lengths, speakers, states=states()).units for each in (text, other)]
    assert not torch.equal(*differ)
    units = talker.read(text, lengths, speakers, states=torch.zeros(2, 9, H)).units
    assert not torch.equal(units[0, 0], units[0, 10]), "the silences before and after the text"


@pytest.mark.parametrize("options", [{}, {"alignment": "durations"}, {"pattern": "delay"}, {"text_dropout": 0.1}])
@torch.no_grad()
def test_frame_by_frame_is_all_at_once(options):
    talker, (text, lengths, codes, speakers) = told("hidden", **options), inputs()
    read = {"speakers": speakers, "states": states()}
    whole = talker(text, lengths, codes, **read)
    cache = talker.new_cache(2, 40)
    steps = [talker.prefill(text, lengths, cache=cache, **read)]
    for frame in range(6):
        steps.append(talker.decode_step(codes[:, frame : frame + 1], frame=frame + 1, cache=cache))
    if not talker.lag:  # which reads its own codes of the frames that are not complete
        torch.testing.assert_close(torch.cat([each.logits for each in steps], 1), whole.logits, rtol=1e-4, atol=1e-4)
    times = talker.times(text, lengths, **read)
    assert (times.diff(dim=1) >= 0).all() and (talker.num_frames(text, lengths, **read) >= times[:, -1] - 1e-3)[0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"conditioning": "hidden"}, "conditioning=hidden state_width=0: at least 1, the width of the Thinker"),
        ({"state_width": 4}, "conditioning=text state_width=4: 0, it is told no states"),
        ({"conditioning": "tokens"}, "conditioning=tokens: available are text, hidden, both"),
    ],
)
def test_options_that_contradict_each_other_are_one_line(options, message):
    with pytest.raises(ValueError, match=message):
        Talker(**SMALL, **options)
