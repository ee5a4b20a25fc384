"""Forced alignment: characters and words get the frames in which they are said."""

import pytest
import torch

from muomni.frontends.char_vocab import encode_characters
from muomni.inference.asr.alignment import Word, align_characters, align_words, character_spans, unit_ends


def path_logits(path):
    """Log-probabilities (T, 99) whose most likely symbols are the path's."""
    return (9.0 * torch.nn.functional.one_hot(torch.tensor(path), 99).float()).log_softmax(-1)


def test_alignment_is_the_middle_of_each_run():
    a, b = encode_characters("ab")
    log_probs = path_logits([0, a, a, a, 0, b, 0, b, b, 0])
    assert align_characters(log_probs, [a, b, b]).tolist() == [2.0, 5.0, 7.5]
    assert character_spans(log_probs, [a, b, b]).tolist() == [[1, 3], [5, 5], [7, 8]]


def test_neighbours_without_a_blank_between_are_told_apart_up_to_both_ends():
    a, b = encode_characters("ab")
    assert character_spans(path_logits([a, a, b]), [a, b]).tolist() == [[0, 1], [2, 2]]


def test_alignment_under_bfloat16_is_the_same():
    """torchaudio's aligner refuses bfloat16, which is what autocast gives on some processors."""
    log_probs = torch.randn(12, 6).log_softmax(-1).bfloat16()
    assert torch.equal(align_characters(log_probs, [1, 2, 2]), align_characters(log_probs.float(), [1, 2, 2]))


def test_a_clip_too_short_for_its_text_is_spread_evenly():
    a, b = encode_characters("ab")
    assert align_characters(path_logits([0, a, b]), [a, a, b]).tolist() == [0.5, 1.0, 1.5]


def units(path, text):
    """Where the units of a text end, by the path's symbols."""
    ids = encode_characters(text)
    return unit_ends(character_spans(path_logits(path), ids), text, total=len(path)).tolist()


def test_units_divide_a_clip_with_silence_at_both_ends():
    """By hand: a letter reaches one frame into silence; the blanks between two letters are shared."""
    a, b = encode_characters("ab")
    assert units([0, 0, 0, a, a, 0, 0, b, 0, 0], "ab") == [2, 6, 9, 10]
    assert units([a, b], "ab") == [0, 1, 2, 2], "no silence at all"


def test_a_letter_that_is_said_twice_has_two_units():
    a, b = encode_characters("ab")
    assert units([0, a, 0, a, a, b], "aab") == [0, 2.5, 5, 6, 6]


def test_a_pause_belongs_to_the_space():
    a, b, space = encode_characters("ab ")
    assert units([a, 0, 0, 0, 0, space, 0, 0, 0, 0, b], "a b") == [0, 2, 9, 11, 11]
    assert units([a, 0, space, b], "a b") == [0, 1.5, 3, 4, 4], "a short gap is shared"


def test_a_text_that_does_not_fit_is_spread_over_its_clip():
    a, b = encode_characters("ab")
    ends = units([0, a, b], "aabab")
    assert ends == sorted(ends) and ends[-1] == 3 and len(ends) == 7
    assert min(later - earlier for earlier, later in zip(ends[1:], ends[2:-1], strict=False)) > 0


@pytest.mark.parametrize("seed", range(5))
def test_units_rise_and_fill_the_clip(seed):
    torch.manual_seed(seed)
    text = "the red circle is  on"
    log_probs = torch.randn(60, 99).log_softmax(-1)
    ends = unit_ends(character_spans(log_probs, encode_characters(text)), text, total=60)
    assert len(ends) == len(text) + 2 and ends[-1] == 60 and ends[0] >= 0
    assert (ends.diff() >= 0).all() and (ends[1:-1].diff() > 0).all(), "each character is spoken"


def test_words_last_from_their_first_character_to_their_last():
    a, b, space = encode_characters("ab ")
    log_probs = path_logits([0, a, b, b, space, 0, a, 0, a])
    words = align_words(log_probs, "ab aa", frame_seconds=0.5, offset=10.0)
    assert words == [Word("ab", 10.5, 12.0), Word("aa", 13.0, 14.5)]
    assert align_words(log_probs, "  ", frame_seconds=0.5, offset=0.0) == []


def test_spaces_at_the_ends_take_time_but_are_no_words():
    a, space = encode_characters("a ")
    words = align_words(path_logits([space, a, space]), " a ", frame_seconds=1.0, offset=0.0)
    assert words == [Word("a", 1.0, 2.0)]


@pytest.mark.parametrize("seed", range(5))
def test_words_come_one_after_the_other(seed):
    torch.manual_seed(seed)
    words = align_words(torch.randn(80, 99).log_softmax(-1), "the red circle is", frame_seconds=0.04, offset=0.0)
    assert [word.text for word in words] == ["the", "red", "circle", "is"]
    times = [time for word in words for time in (word.start, word.end)]
    assert times == sorted(times) and times[-1] <= 80 * 0.04 + 1e-9


def test_the_confidence_of_a_word_is_the_mean_posterior_of_its_characters():
    """By hand: a is spelled in two frames, of .5 and .8; b in one of .2: sqrt(.8 x .2) = .4."""
    a, b, space = encode_characters("ab ")
    probs = torch.full((5, 99), 1e-9)
    for frame, (symbol, value) in enumerate([(a, 0.5), (a, 0.8), (b, 0.2), (space, 0.9), (b, 0.6)]):
        probs[frame, symbol] = value
    words = align_words(probs.log(), "ab b", frame_seconds=1.0, offset=0.0)
    assert [word.confidence for word in words] == pytest.approx([0.4, 0.6])
