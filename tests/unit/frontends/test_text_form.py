"""Forms of texts: what they change, that they are recognised, and that a tokenizer and a Speaker write by them."""

import pickle

import pytest

from muomni.frontends.text_form import FORMS, basic_english, form_metadata, form_named, form_of, lower
from muomni.frontends.tokenizer import Tokenizer


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("Hello, World!", "hello world"),
        ("It's “TEN” o’clock – the dogs' bowl", "it's ten o'clock the dogs bowl"),
        ("'quoted' 'tis", "quoted tis"),
        ("Café Müller, 3.5 kg\n(net)", "cafe muller 3 5 kg net"),
        ("  a\t b ", "a b"),
        ("?!", ""),
    ],
)
def test_basic_english(text, written):
    assert basic_english(text) == written
    assert basic_english(written) == written, "once is enough"


def test_lower_keeps_spaces_and_signs():
    assert lower("Straße,  ÀB\n") == "straße,  àb\n"
    assert form_named(None)("As it IS") == form_named("as_is")("As it IS") == "As it IS"


def test_an_export_names_its_form_and_what_it_does():
    for name in FORMS:
        assert form_of({"text": form_metadata(name)}, where="x") == name
    assert form_of({}, where="x") is None
    assert len({form_metadata(name)["fingerprint"] for name in FORMS}) == 3
    for wrong in ({"form": "upper", "fingerprint": "0"}, {**form_metadata("lower"), "fingerprint": "0"}, "lower"):
        with pytest.raises(ValueError, match="checkpoints/a: its texts were written in the form"):
            form_of({"text": wrong}, where="checkpoints/a")
    with pytest.raises(ValueError, match="text=upper: available are as_is, lower, basic_english"):
        form_named("upper")


def test_a_tokenizer_writes_in_its_form_also_in_another_process(tmp_path):
    plain = Tokenizer.of_characters("abcdefghijklmnopqrstuvwxyz ABC!", tmp_path / "tokenizer.model")
    formed = plain.with_form("basic_english")
    assert formed.encode("A  cab!") == plain.encode("a cab") != plain.encode("A  cab!")
    assert formed.fingerprint() == plain.fingerprint() and formed.with_form("basic_english") is formed
    again = pickle.loads(pickle.dumps(formed))
    assert again.encode("A  cab!") == formed.encode("A  cab!")
    assert plain.encode("A") != formed.encode("A")
