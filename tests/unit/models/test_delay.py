"""Codebooks that are delayed: which step reads and predicts which code; decoding is teacher forcing, one frame at a time."""

import pytest
import torch

from muomni.interop.onnx.talker import talker_text_graph
from muomni.models.delay import by_frame, delayed_inputs
from tests.unit.models.test_talker import build, inputs

BOTH = pytest.mark.parametrize("alignment", ["free", "durations"])


def build_delayed(**options):
    return build(**({"pattern": "delay", "num_codebooks": 3} | options))


def codes_of(talker, rows=2, frames=7):
    return torch.randint(10, (rows, frames, talker.num_codebooks))


def test_steps_read_older_frames_of_later_codebooks():
    """Frame t, codebook k is 10 t + k + 1; two frames, three codebooks."""
    embedded = torch.tensor([[1.0, 2.0, 3.0], [11.0, 12.0, 13.0]])[None, :, :, None]
    assert delayed_inputs(embedded, steps=4)[0, :, 0].tolist() == [0.0, 1.0, 11.0 + 2.0, 12.0 + 3.0]
    assert delayed_inputs(embedded, steps=1)[0, :, 0].tolist() == [0.0]


def test_a_frame_has_its_codes_from_the_steps_after_each_other():
    logits = torch.arange(5)[:, None] * 10.0 + torch.arange(3)  # step s, codebook k: 10 s + k
    assert by_frame(logits[None, :, :, None])[0, :, :, 0].tolist() == [[0, 11, 22], [10, 21, 32], [20, 31, 42]]


@BOTH
@torch.no_grad()
def test_a_code_follows_from_those_before_it_and_from_no_later_one(alignment):
    talker, (text, lengths, _, speakers) = build_delayed(alignment=alignment), inputs()
    codes = codes_of(talker)
    before = talker(text, lengths, codes, speakers=speakers).logits
    assert before.shape == (2, 7, 3, 10)
    for frame, k in ((3, 0), (3, 1), (5, 2)):
        changed = codes.clone()
        changed[:, frame, k] = (codes[:, frame, k] + 1) % 10
        after = talker(text, lengths, changed, speakers=speakers).logits
        same = (before - after).abs().amax(-1) < 1e-6  # B T K
        step = frame + k  # predicts it; later steps read it
        for t in range(7):
            for other in range(3):
                assert bool(same[:, t, other].all()) == (t + other <= step)


@BOTH
@torch.no_grad()
def test_decoding_is_teacher_forcing_of_its_own_codes(alignment):
    """Greedy frames, fed to the whole network, are the most likely ones of it; so are continuations of a prefix of them."""
    talker, (text, lengths, _, speakers) = build_delayed(alignment=alignment), inputs()
    for head in talker.heads:
        head.weight.normal_()
    cache = talker.new_cache(2, 60)
    out = talker.prefill(text, lengths, speakers=speakers, cache=cache)
    frames, stops, logits = [], [], []
    for frame in range(1, 10):
        frames.append(out.logits[:, 0].argmax(-1))
        stops.append(out.stop)
        logits.append(out.logits)
        out = talker.decode_step(frames[-1][:, None], frame=frame, cache=cache)
    codes = torch.stack(frames, dim=1)
    whole = talker(text, lengths, codes, speakers=speakers)
    known = 9 - talker.lag  # the last frames' steps would read frames that are not there
    torch.testing.assert_close(whole.logits[:, :known], torch.cat(logits, 1)[:, :known], rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(whole.stop[:, :9], torch.cat(stops, dim=1), rtol=1e-3, atol=1e-3)
    for count in (1, 2, 5):
        again = talker.new_cache(2, 60)
        later = talker.prefill(text, lengths, speakers=speakers, cache=again, codes=codes[:, :count])
        for frame in range(count, 9):
            torch.testing.assert_close(later.logits, logits[frame], rtol=1e-3, atol=1e-3)
            later = talker.decode_step(codes[:, frame : frame + 1], frame=frame + 1, cache=again)


def test_one_codebook_has_nothing_to_delay_and_a_graph_none_of_it():
    talker, (text, lengths, codes, speakers) = build(pattern="delay", num_codebooks=1), inputs()
    assert talker.lag == 0
    assert talker(text, lengths, codes[..., :1], speakers=speakers).logits.shape == (2, 7, 1, 10)
    with pytest.raises(ValueError, match="pattern=delay has no ONNX graph"):
        talker_text_graph(build_delayed())
