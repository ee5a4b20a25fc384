"""ARPA files of other tools: read as KenLM reads them (the scores below are its own), and refused where they are damaged."""

import gzip
import logging
import math

import pytest

from muomni.frontends.char_vocab import encode_characters
from muomni.inference.asr import ngram
from muomni.inference.asr.arpa import LN10, read_arpa, write_arpa
from muomni.inference.asr.ctc_decoders import build_decoder
from muomni.inference.asr.ngram import BEGIN, END, SPACE, UNKNOWN, NGram, train_ngram

#: As SRILM writes: free text before the data, no <unk>, back-off only where it differs from 0 (one is above 0).
SRILM = (
    "made by ngram-count\n\n\\data\\\nngram 1=5\nngram 2=3\n\n\\1-grams:\n-0.6\t</s>\n-99\t<s>\t-0.3\n-0.5\ta\t0.1\n"
    "-0.7\tb\n-0.9\tc\u00a0d\t-0.2\n\n\\2-grams:\n-0.2\t<s> a\n-0.25\ta b\n-0.4\tb </s>\n\n\\end\\\n"
)
#: As KenLM's lmplz writes: <s> has probability 1.
KENLM = (
    "\\data\\\nngram 1=5\nngram 2=4\n\n\\1-grams:\n-1.2\t<unk>\t0\n0\t<s>\t-0.3\n-0.6\t</s>\t0\n-0.5\tRED\t-0.15\n"
    "-0.7\tDOT\t-0.1\n\n\\2-grams:\n-0.2\t<s> RED\n-0.25\tRED DOT\n-0.4\tDOT </s>\n-0.3\tDOT RED\n\n\\end\\\n"
)


def write(tmp_path, text, name="lm.arpa", **changes):
    for old, new in changes.items():
        text = text.replace(old, new)
    path = tmp_path / name
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("file", "text", "score"),
    [
        (SRILM, "a b", -0.2 - 0.25 - 0.4),
        (SRILM, "a a", -0.2 + 0.1 - 0.5 + 0.1 - 0.6),
        (SRILM, "b", -0.3 - 0.7 - 0.4),
        (SRILM, "x", -0.3 - 99 - 0.6),
        (KENLM, "RED DOT", -0.2 - 0.25 - 0.4),
        (KENLM, "RED RED BLUE", -0.2 - 0.15 - 0.5 - 0.15 - 1.2 - 0.6),
        (KENLM, "red dot", -0.2 - 0.25 - 0.4),  # KenLM itself would need capitals
    ],
)
def test_scores_are_those_of_the_tool_that_wrote_it(tmp_path, file, text, score):
    model = NGram.load(write(tmp_path, file))
    assert model.unit == "word"
    unknown = 1.0 if text == "x" else 0.0  # a file without <unk>: 1e-100, as KenLM has it
    assert model.text_log_prob(text) / LN10 == pytest.approx(score - unknown)


def test_windows_line_ends_spaces_for_tabs_a_byte_order_mark_and_gzip_change_nothing(tmp_path):
    plain = read_arpa(write(tmp_path, SRILM))
    for number, text in enumerate((SRILM.replace("\n", "\r\n"), SRILM.replace("\t", "  "), "\ufeff" + SRILM)):
        (tmp_path / str(number)).write_bytes(text.encode())
        other = read_arpa(tmp_path / str(number))
        assert (other.grams, other.backoff) == (plain.grams, plain.backoff)
    (tmp_path / "lm.arpa.gz").write_bytes(gzip.compress(SRILM.encode()))
    assert read_arpa(tmp_path / "lm.arpa.gz") == plain
    assert ("c\u00a0d",) in plain.grams, "only tabs and spaces divide"


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("-0.25\ta b", "nan\ta b", r"lm\.arpa:16: log-probability nan: a number of at most 0"),
        ("-0.25\ta b", "0.25\ta b", r"lm\.arpa:16: log-probability 0\.25"),
        ("-0.25\ta b", "inf\ta b", r"lm\.arpa:16: log-probability inf"),
        ("a\t0.1", "a\tnan", r"lm\.arpa:10: back-off weight nan"),
        ("a\t0.1", "a\tinf", r"lm\.arpa:10: back-off weight inf"),
        ("-0.25\ta b", "-0.25\ta", r"lm\.arpa:16: not a line of an ARPA file, which has a number and 2 unit"),
        ("-0.25\ta b", "x\ta b", r"lm\.arpa:16: not a line of an ARPA file \('x' is not a number"),
        ("-0.25\ta b", "-0.2\t<s> a", r"lm\.arpa:16: the n-gram '<s> a' is in the file twice"),
        ("ngram 2=3", "ngram 2=4", r"lm\.arpa:19: 3 2-grams before this line, the file states 4"),
        ("ngram 2=3", "ngram 2=3\nngram 3=1", r"ends before its highest order"),
        ("\\2-grams:", "\\3-grams:", r"section \\3-grams: where 2-grams are expected"),
        ("ngram 2=3\n", "", r"where 2-grams are expected"),
        ("\n\\end\\\n", "", r"lm\.arpa: the file is cut off"),
        ("-0.4\tb </s>\n\n\\end\\\n", "-0.4\tb </s", r"cut off"),
        ("\\data\\", "data", r"lm\.arpa: no line \\data\\"),
        ("made by ngram-count", "mmap lm http://kheafield.com/code format version 5", r"binary model of KenLM"),
        ("-0.5\ta\t0.1\n-0.7\tb\n", "", r"lm\.arpa:12: 3 1-grams before this line, the file states 5"),
    ],
)  # fmt: skip
def test_a_damaged_file_is_one_line_with_its_number(tmp_path, old, new, reason):
    assert old in SRILM
    with pytest.raises(ValueError, match=reason) as error:
        NGram.load(write(tmp_path, SRILM, **{old: new}))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", [b"\x1f\x8bnot gzip", gzip.compress(SRILM.encode())[:-40], b"x" * (1 << 21), b""])
def test_what_is_no_text_is_refused(tmp_path, content):
    (tmp_path / "lm.arpa").write_bytes(content)
    with pytest.raises(ValueError, match=r"lm\.arpa"):
        NGram.load(tmp_path / "lm.arpa")


def test_minus_infinity_stands_for_a_probability_of_nothing(tmp_path):
    arpa = read_arpa(write(tmp_path, SRILM, **{"-99\t<s>": "-inf\t<s>"}))
    assert arpa.grams[(BEGIN,)] == -99 * LN10


def test_special_units_of_any_case_are_known(tmp_path):
    loud = KENLM.replace("<unk>", "<UNK>").replace("<s>", "<S>").replace("</s>", "</S>")
    assert read_arpa(write(tmp_path, loud)).grams == read_arpa(write(tmp_path, KENLM, "other")).grams


def test_capitals_are_said_and_looked_up_whatever_their_case(tmp_path, caplog):
    model = NGram.load(write(tmp_path, KENLM))
    assert "lm.arpa is in upper case (2 of 2 words have capitals)" in caplog.text and model.case == "upper"
    state, total = model.start, 0.0
    for symbol in encode_characters("red dot"):
        state, more = model.advance(state, symbol)
        total += more
    assert total + model.end(state) == pytest.approx(model.text_log_prob("RED DOT"))
    mixed = NGram.load(write(tmp_path, KENLM.replace("DOT", "London").replace("RED", "red"), "mixed.arpa"))
    assert mixed.case == "mixed" and mixed.known("london") == "London" and mixed.known("red") == "red"
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        NGram.load(write(tmp_path, KENLM.lower(), "lower.arpa"))
    assert not caplog.text


def test_a_model_of_characters_is_told_by_its_units(tmp_path):
    names = {"RED": "a", "DOT": "|"}
    text = KENLM
    for old, new in names.items():
        text = text.replace(old, new)
    model = NGram.load(write(tmp_path, text))
    assert model.unit == "character" and model.vocabulary == {"a", SPACE, END, UNKNOWN}
    assert model.text_log_prob("a ") / LN10 == pytest.approx(-0.2 - 0.25 - 0.4)


@pytest.mark.parametrize("unit", ["character", "word"])
def test_a_file_of_ours_is_plain_arpa(tmp_path, unit):
    """Comments begin with #, as KenLM asks; no n-gram of the highest order has a back-off weight; counts are true."""
    model = train_ngram(["a b", "a <s> c", "the the"], order=3, unit=unit)
    model.save(tmp_path / "lm.arpa")
    lines = (tmp_path / "lm.arpa").read_text().split("\n")
    assert lines[0] == f"# muomni n-gram of units: {unit}, case: lower" and lines[2] == "\\data\\"
    highest = lines[lines.index("\\3-grams:") + 1 : lines.index("\\end\\") - 1]
    assert highest and all(len(line.split("\t")) == 2 and len(line.split(" ")) == 3 for line in highest)
    again = read_arpa(tmp_path / "lm.arpa")
    assert again.grams.keys() == model.grams.keys() and max(again.grams.values()) <= 0
    assert again.backoff == pytest.approx(
        {gram: value for gram, value in model.backoff.items() if len(gram) < 3}, abs=1e-5
    )


def test_files_of_before_are_read(tmp_path):
    old = KENLM.replace("\\data\\", "muomni n-gram of units: character\n\n\\data\\")
    assert NGram.load(write(tmp_path, old)).unit == "character", (
        "what the file says goes before what its units look like"
    )


def test_a_file_is_parsed_once_and_again_when_it_changes(tmp_path, monkeypatch):
    parsed = []
    monkeypatch.setattr(ngram, "read_arpa", lambda path: parsed.append(path) or read_arpa(path))
    path = write(tmp_path, SRILM)
    first = build_decoder(beams=2, lm=path).search.lm
    assert build_decoder(beams=2, lm=str(path)).search.lm.grams is first.grams and len(parsed) == 1
    write(tmp_path, SRILM.replace("-0.25", "-0.125"))
    assert build_decoder(beams=2, lm=path).search.lm.grams is not first.grams and len(parsed) == 2


def test_a_failed_write_leaves_nothing(tmp_path):
    with pytest.raises(UnicodeEncodeError):
        write_arpa(tmp_path / "lm.arpa", {("\ud83d",): math.log(0.5)}, {})
    assert list(tmp_path.iterdir()) == []


def test_a_model_lies_in_the_home_folder_and_through_a_link(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "disk").mkdir()
    (tmp_path / "lm.arpa").symlink_to(tmp_path / "disk" / "lm.arpa")
    train_ngram(["a b"], order=2, unit="word").save("~/lm.arpa")
    assert (tmp_path / "lm.arpa").is_symlink() and (tmp_path / "disk" / "lm.arpa").is_file()
    assert NGram.load("~/lm.arpa").order == 2
