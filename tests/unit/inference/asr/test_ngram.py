"""The n-gram model: hand-computed, normalised, kept in a file that loads as it was."""

import json
import math
import random

import pytest

from muomni.frontends.char_vocab import encode_characters
from muomni.inference.asr.ngram import BEGIN, END, NGram, main, read_texts, split_units, train_ngram

TEXTS = ["the red circle", "the blue square", "a red square", "the red circle is red", "a b c"]


def test_a_bigram_model_by_hand():
    """Two texts, "a b" and "a c". Bigrams <s>a x2, ab, ac, b</s>, c</s> x1: discount 4 / (4 + 2) = 2/3. Unigrams are
    counted by the units before them: a 1, b 1, c 1, </s> 2, so 3 / (3 + 2) = 3/5 of discount, total 5; 5 units with <unk>."""
    model = train_ngram(["a b", "a c"], order=2, unit="word")
    spread = 3 / 5 * 4 / 5 / 5
    a, b, end = (1 - 3 / 5) / 5 + spread, (1 - 3 / 5) / 5 + spread, (2 - 3 / 5) / 5 + spread

    def p(context, unit):
        return math.exp(model.log_prob((context,), unit))

    assert p(BEGIN, "a") == pytest.approx((2 - 2 / 3) / 2 + 2 / 3 * 1 / 2 * a)
    assert p("a", "b") == pytest.approx((1 - 2 / 3) / 2 + 2 / 3 * 2 / 2 * b)
    assert p("a", END) == pytest.approx(2 / 3 * end)
    assert p("b", END) == pytest.approx(1 / 3 + 2 / 3 * end)
    assert p("never", "b") == pytest.approx(b)
    assert p("a", "never") == pytest.approx(2 / 3 * spread)
    assert model.text_log_prob("a b") == pytest.approx(math.log(p(BEGIN, "a") * p("a", "b") * p("b", END)))


@pytest.mark.parametrize(("unit", "order"), [("character", 1), ("character", 4), ("word", 2), ("word", 3)])
def test_probabilities_of_all_units_sum_to_one(unit, order):
    model = train_ngram(TEXTS, order=order, unit=unit)
    rng = random.Random(0)
    units = [*sorted(model.vocabulary), "never seen"]
    contexts = [(), (BEGIN,), *(tuple(rng.choices(units, k=rng.randint(1, 4))) for _ in range(30))]
    contexts += [tuple([BEGIN, *split_units(text, unit)][:3]) for text in TEXTS]
    for context in contexts:
        assert sum(math.exp(model.log_prob(context, u)) for u in model.vocabulary) == pytest.approx(1.0), context


def test_it_knows_its_own_text_better():
    model = train_ngram(TEXTS, order=4, unit="character")
    assert (
        model.text_log_prob("the red square")
        > model.text_log_prob("the reb square")
        > model.text_log_prob("hte rde suqare")
    )


@pytest.mark.parametrize("unit", ["character", "word"])
def test_symbol_by_symbol_equals_the_whole_text(unit):
    model = train_ngram(TEXTS, order=3, unit=unit)
    for text in ("the red square", "a", "", "blue unknown word", "xyz"):
        state, total = model.start, 0.0
        for symbol in encode_characters(text):
            state, more = model.advance(state, symbol)
            total += more
        assert total + model.end(state) == pytest.approx(model.text_log_prob(text))


def test_a_word_model_takes_several_spaces_as_one():
    model = train_ngram(TEXTS, order=2, unit="word")
    state, total = model.start, 0.0
    for symbol in encode_characters(" a  red "):
        state, more = model.advance(state, symbol)
        total += more
    assert total + model.end(state) == pytest.approx(model.text_log_prob("a red"))


@pytest.mark.parametrize("unit", ["character", "word"])
def test_a_saved_model_is_the_same(tmp_path, unit):
    model = train_ngram(TEXTS, order=3, unit=unit)
    model.save(tmp_path / "lm.arpa")
    again = NGram.load(tmp_path / "lm.arpa")
    assert (again.unit, again.order, again.vocabulary) == (unit, 3, model.vocabulary)
    for text in (*TEXTS, "something else"):
        assert again.text_log_prob(text) == pytest.approx(model.text_log_prob(text), abs=1e-4)
    lines = (tmp_path / "lm.arpa").read_text().splitlines()
    assert lines[2] == "\\data\\" and lines[-1] == "\\end\\"  # ARPA, as other tools read it


def test_damaged_files_are_named_with_the_line(tmp_path):
    path = tmp_path / "lm.arpa"
    with pytest.raises(FileNotFoundError, match=r"no such language model: .*muomni\.inference\.asr\.ngram TEXT out="):
        NGram.load(path)
    path.write_bytes(b"\x00\xff garbage")
    with pytest.raises(ValueError, match=r"lm\.arpa:1: not UTF-8"):
        NGram.load(path)
    train_ngram(TEXTS, order=2, unit="word").save(path)
    whole = path.read_text()
    for end in range(0, len(whole) - 8, 7):  # wherever it is cut off
        path.write_text(whole[:end])
        with pytest.raises(ValueError, match=r"lm\.arpa(:\d+)?: ") as error:
            NGram.load(path)
        assert "\n" not in str(error.value)
    path.write_text(whole.replace("\tred", "x\tred", 1))
    with pytest.raises(ValueError, match=r"lm\.arpa:\d+: not a line of an ARPA file"):
        NGram.load(path)


def test_the_command_trains_and_writes(tmp_path, capsys):
    (tmp_path / "a.txt").write_text("The red circle\n\nthe  blue square\n")
    (tmp_path / "b.jsonl").write_text(json.dumps({"audio": "x.wav", "text": "a red square"}) + "\n")
    main([str(tmp_path / "a.txt"), str(tmp_path / "b.jsonl"), f"out={tmp_path}/lm.arpa", "order=3", "unit=word"])
    said = capsys.readouterr().out
    model = NGram.load(tmp_path / "lm.arpa")
    assert "3 texts" in said and f"{len(model.grams)} n-grams" in said
    assert model.vocabulary == {"the", "red", "circle", "blue", "square", "a", END, "<unk>"}
    assert list(read_texts(tmp_path / "a.txt", lowercase=False)) == ["The red circle", "the blue square"]


def test_texts_of_one_split_alone(tmp_path):
    manifest = tmp_path / "all.jsonl"
    manifest.write_text('{"text": "Yes", "split": "train"}\n{"text": "no", "split": "dev"}\n{"text": "go"}\n')
    assert list(read_texts(manifest, lowercase=True)) == ["yes", "no", "go"]
    assert list(read_texts(manifest, lowercase=True, split="train")) == ["yes"]
    main([str(manifest), f"out={tmp_path}/lm.arpa", "unit=word", "order=1", "split=dev"])
    assert NGram.load(tmp_path / "lm.arpa").vocabulary == {"no", "</s>", "<unk>"}
    with pytest.raises(ValueError, match="only a .jsonl manifest has splits"):
        list(read_texts(tmp_path / "lm.arpa", lowercase=True, split="train"))


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ([], "name the text files"),
        (["text", "ordr=3"], "unknown option 'ordr'"),
        (["text", "order=0"], "order=0"),
        (["text", "order=x"], "order=x: a whole number"),
        (["text", "unit=letter"], "unit=letter: available are character, word"),
        (["gone.txt"], "no such text: gone.txt"),
        (["empty"], "no text to train"),
        (["bad.jsonl"], r"bad\.jsonl:2: not an object with the field 'text'"),
    ],
)
def test_the_command_names_what_is_wrong(tmp_path, monkeypatch, arguments, reason):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text").write_text("a b\n")
    (tmp_path / "empty").write_text("\n \n")
    (tmp_path / "bad.jsonl").write_text('{"text": "a"}\n{"txt": 1}\n')
    with pytest.raises((ValueError, FileNotFoundError), match=reason):
        main(arguments)
