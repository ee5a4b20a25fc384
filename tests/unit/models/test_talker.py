"""Talker: the reference's size, teacher forcing, the cache, the text."""

import pytest
import torch

from muomni.models.talker import Talker, upsample_text

SMALL = {
    "num_symbols": 99, "num_speakers": 2, "text_layers": 1, "text_kernel": 3, "num_codebooks": 2, "codebook_size": 10,
    "dim": 32, "num_layers": 2, "num_heads": 2, "ff_dim": 48, "max_frames": 100, "shared_embedding": False,
}  # fmt: skip


def build(**options):
    torch.manual_seed(0)
    talker = Talker(**(SMALL | options)).eval()
    torch.nn.init.normal_(talker.code_embedding.weight)
    torch.nn.init.normal_(talker.text.embedding.weight)
    torch.nn.init.normal_(talker.text.step.weight)
    return talker


def inputs():
    text = torch.randint(1, 99, (2, 9))
    return text, torch.tensor([9, 6]), torch.randint(10, (2, 7, 2)), torch.tensor([0, 1])


def test_reference_parameters():
    talker = Talker(
        num_symbols=99, num_speakers=1, text_layers=0, text_kernel=3, num_codebooks=2, codebook_size=128, dim=192,
        num_layers=4, num_heads=3, ff_dim=768, max_frames=1000, shared_embedding=True,
    )  # fmt: skip
    conditioning = [*talker.text.parameters(), *talker.stop.parameters()]  # and the stop
    assert sum(p.numel() for p in talker.parameters()) - sum(p.numel() for p in conditioning) == 2_435_200
    text = torch.ones(2, 5, dtype=torch.long)
    output = talker(text, torch.tensor([5, 5]), torch.zeros(2, 50, 2, dtype=torch.long), speakers=torch.zeros(2).long())
    assert output.logits.shape == (2, 50, 2, 128)
    assert output.stop.shape == (2, 50)


def test_a_start_frame_of_zeros_draws_the_same_other_weights():
    plain, zeros = build(), build(start_std=0.0)
    assert plain.start.abs().sum() > 0 and not zeros.start.any()
    assert torch.equal(plain.heads[1].weight, zeros.heads[1].weight)


@pytest.mark.parametrize("alignment", ["free", "durations"])
@torch.no_grad()
def test_frames_that_were_spoken_are_read_with_the_text(alignment):
    """As if they had been decoded one by one, also from there on."""
    talker, (text, lengths, codes, speakers) = build(alignment=alignment), inputs()
    cache = talker.new_cache(2, 40)
    out = talker.prefill(text, lengths, speakers=speakers, cache=cache)
    for frame in range(7):
        out = talker.decode_step(codes[:, frame : frame + 1], frame=frame + 1, cache=cache)
    again = talker.new_cache(2, 40)
    at_once = talker.prefill(text, lengths, speakers=speakers, cache=again, codes=codes)
    assert again.position == cache.position
    torch.testing.assert_close(at_once.logits, out.logits, rtol=1e-4, atol=1e-4)
    step = [talker.decode_step(codes[:, :1], frame=8, cache=each).logits for each in (cache, again)]
    torch.testing.assert_close(step[0], step[1], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("alignment", ["free", "durations"])
@torch.no_grad()
def test_characters_end_at_rising_times(alignment):
    talker, (text, lengths, _, speakers) = build(alignment=alignment), inputs()
    times = talker.times(text, lengths, speakers=speakers)
    assert (times.diff(dim=1) >= 0).all() and times.shape == text.shape
    total = talker.num_frames(text, lengths, speakers=speakers)
    if alignment == "free":
        torch.testing.assert_close(times[:, -1], total)
    else:
        assert (total[0] > times[0, -1]).all(), "and the silence after the text"


@pytest.mark.parametrize("alignment", ["free", "durations"])
def test_a_frame_sees_only_earlier_frames(alignment):
    talker, (text, lengths, codes, speakers) = build(alignment=alignment), inputs()
    before = talker(text, lengths, codes, speakers=speakers).logits
    changed = codes.clone()
    changed[:, 4] = (changed[:, 4] + 1) % 10
    after = talker(text, lengths, changed, speakers=speakers).logits
    torch.testing.assert_close(before[:, :5], after[:, :5])
    assert not torch.allclose(before[:, 5], after[:, 5])


@pytest.mark.parametrize("alignment", ["free", "durations"])
def test_cached_equals_teacher_forced_with_ragged_texts(alignment):
    talker, (text, lengths, codes, speakers) = build(alignment=alignment), inputs()
    text[1, 6:] = 0
    whole = talker(text, lengths, codes, speakers=speakers)
    cache = talker.new_cache(2, 40)
    steps = [talker.prefill(text, lengths, speakers=speakers, cache=cache)]
    steps += [talker.decode_step(codes[:, t - 1 : t], frame=t, cache=cache) for t in range(1, 7)]
    torch.testing.assert_close(torch.cat([s.logits for s in steps], dim=1), whole.logits, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(torch.cat([s.stop for s in steps], dim=1), whole.stop, atol=1e-5, rtol=1e-4)
    alone = talker(text[1:, :6], lengths[1:], codes[1:], speakers=speakers[1:])
    torch.testing.assert_close(alone.logits[0], whole.logits[1], atol=1e-5, rtol=1e-4)


def test_a_frame_hears_the_text_of_its_place():
    prefix = torch.tensor([[[1.0], [2.0], [4.0], [9.0]]])
    places = torch.tensor([[0.5, 1.5, 3.5, 5.5]])
    heard = upsample_text(prefix, places, torch.tensor([3]), count=6)
    assert heard.flatten().tolist() == [1.0, 2.0, 3.0, 4.0, 4.0, 4.0]


def test_text_speaker_and_places_matter():
    talker, (text, lengths, codes, speakers) = build(), inputs()
    spoken = talker(text, lengths, codes, speakers=speakers).logits
    other = text.clone()
    other[:, 2] = other[:, 2] % 98 + 1
    assert not torch.allclose(spoken, talker(other, lengths, codes, speakers=speakers).logits)
    assert not torch.allclose(spoken, talker(text, lengths, codes, speakers=1 - speakers).logits)
    output = talker(text, lengths, codes, speakers=speakers)
    same = talker(text, lengths, codes, speakers=speakers, char_times=output.durations.cumsum(1))
    torch.testing.assert_close(same.logits, spoken)
    later = talker(text, lengths, codes, speakers=speakers, char_times=output.durations.cumsum(1) + 2)
    assert not torch.allclose(later.logits, spoken)
    assert (output.durations > 0).all()


@pytest.mark.parametrize("alignment", ["free", "durations"])
def test_a_text_that_is_dropped_leaves_its_times_and_the_voice(alignment):
    talker, (text, lengths, codes, speakers) = build(alignment=alignment, text_dropout=1.0), inputs()
    times = torch.arange(1.0, text.shape[1] + 1 + 2 * (alignment == "durations")).expand(2, -1)
    with torch.no_grad():
        torch.nn.init.normal_(talker.text.speaker.weight)

    def logits(text, speakers, times):
        return talker(text, lengths, codes, speakers=speakers, char_times=times).logits

    talker.train()
    dropped = logits(text, speakers, times)
    torch.testing.assert_close(logits(text.flip(1), speakers, times), dropped, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(logits(text, 1 - speakers, times), dropped, atol=1e-3)
    assert not torch.equal(logits(text, speakers, times * 1.7), dropped)
    talker.eval()
    assert not torch.allclose(logits(text, speakers, times), dropped, atol=1e-3), "used outside of training"
    cache, blank = talker.new_cache(2, 40), talker.new_cache(2, 40)
    out = talker.prefill(text, lengths, speakers=speakers, cache=cache)
    other = talker.prefill(text, lengths, speakers=speakers, cache=blank, with_text=False)
    assert not torch.allclose(out.logits, other.logits, atol=1e-3) and torch.equal(out.durations, other.durations)


def test_rows_are_dropped_as_often_as_told_and_an_option_of_none_has_no_weights():
    talker, (text, lengths, codes, speakers) = build(text_dropout=0.3), inputs()
    read = talker.read(text, lengths, speakers)
    half = talker.without_text(read, speakers, torch.tensor([True, False]))
    assert torch.equal(half.units[1], read.units[1]) and torch.equal(half.prefix, half.units)
    assert torch.equal(half.units[0, 0], half.units[0, -1]) and torch.equal(half.times, read.times)
    talker.train()
    rows = [0, 0]
    keep = talker.without_text
    talker.without_text = lambda read, speakers, dropped: (
        rows.append(int(dropped.sum())) or keep(read, speakers, dropped)
    )
    for _ in range(150):
        talker(text[:, :2], lengths.clamp_max(2), codes[:, :1], speakers=speakers)
    assert 0.2 < sum(rows) / 300 < 0.4
    assert "text.no_text" not in build().state_dict() and "text.no_text" in talker.state_dict()


@pytest.mark.parametrize("alignment", ["free", "durations"])
@torch.no_grad()
def test_codes_in_depth_follow_from_those_before_them_in_the_frame(alignment):
    talker, (text, lengths, codes, speakers) = build(alignment=alignment, pattern="depth"), inputs()
    torch.nn.init.normal_(talker.depth.mlp.down.weight)
    talker.heads[1].weight.normal_()
    first = talker(text, lengths, codes, speakers=speakers).logits
    changed = codes.clone()
    changed[:, -1, 0] = (codes[:, -1, 0] + 1) % 10  # the last frame: no other reads it
    other = talker(text, lengths, codes, speakers=speakers, targets=changed).logits
    assert torch.equal(first[:, :-1], other[:, :-1]) and torch.equal(first[:, -1, 0], other[:, -1, 0])
    assert not torch.allclose(first[:, -1, 1], other[:, -1, 1], atol=1e-3)
    hidden = torch.randn(2, 1, 32)
    best = talker.code_logits(hidden)
    chosen = best.argmax(-1)
    assert torch.equal(talker.code_logits(hidden, chosen), best)
    x = hidden + talker.depth.embedding.weight[chosen[..., 0]]
    by_hand = talker.heads[1](x + talker.depth.mlp(talker.depth.norm(x)))
    torch.testing.assert_close(best[:, :, 1], by_hand)


def test_patterns_that_there_are_not():
    with pytest.raises(ValueError, match="pattern=coarse: available are parallel, delay, depth"):
        build(pattern="coarse")
    with pytest.raises(ValueError, match="pattern=depth: there is one codebook"):
        build(pattern="depth", num_codebooks=1)
