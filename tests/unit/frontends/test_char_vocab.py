import pytest

from muomni.frontends.char_vocab import (
    NUM_LOGITS,
    NUM_SYMBOLS,
    UNKNOWN,
    collapse_ctc,
    ctc_frames_needed,
    decode_characters,
    decode_symbols,
    encode_characters,
    encode_symbols,
    learn_characters,
)
from muomni.special_tokens import BOS, EOS, PIECES


def test_the_table_is_the_reference_one():
    assert encode_characters(" ~\n\t") == [1, 95, 96, 97]
    assert encode_characters("é") == [UNKNOWN]
    assert NUM_LOGITS == 99
    text = "".join(chr(code) for code in range(0x20, 0x7F)) + "\n\t"
    assert decode_characters(encode_characters(text)) == text
    assert sorted(encode_characters(text)) == list(range(1, 98))


def test_collapse_merges_repeats_and_keeps_doubles_apart_by_a_blank():
    assert collapse_ctc([0, 5, 5, 0, 5, 6, 6, 0]) == [5, 5, 6]
    assert collapse_ctc([0, 0]) == []


def test_decode_leaves_blanks_out_and_refuses_foreign_ids():
    assert decode_characters([0, *encode_characters("hi"), 0]) == "hi"
    with pytest.raises(ValueError, match="id 99"):
        decode_characters([99])


def test_frames_needed_count_doubles():
    assert ctc_frames_needed(encode_characters("hello")) == 6
    assert ctc_frames_needed([]) == 0


def test_symbols_stand_behind_the_special_tokens():
    assert encode_symbols(" a") == [len(PIECES), len(PIECES) + ord("a") - ord(" ")]
    assert max(encode_symbols("\u6f22")) == NUM_SYMBOLS - 1
    assert decode_symbols([BOS, *encode_symbols("a 1\n"), EOS]) == "a 1\n"


def test_characters_of_its_own_come_in_their_order_with_one_id_for_all_others():
    own = learn_characters(["где он", "он там"])
    assert own == " агдемнот"
    assert (
        encode_characters(" а", own) == [1, 2] and decode_characters(encode_characters("он где", own), own) == "он где"
    )
    assert encode_characters("x", own) == [len(own) + 1]
    assert decode_characters([len(own) + 1, 98], own) == "\ufffd\ufffd", "also what a larger table of symbols holds"
    assert decode_symbols(encode_symbols("там", own), own) == "там"
    with pytest.raises(ValueError, match="outside 0"):
        decode_characters([-1], own)
