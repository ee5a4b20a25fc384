"""`text=` and `tokenizer=`: documents and transcripts are read in the form that is chosen."""

import json

import pytest

from datamodules.speech import SpeechData
from datamodules.text import TextData
from datamodules.tokenizer_cache import pieces_of
from muomni.frontends.tokenizer import Tokenizer

TEXTS = [f"The Number {number} Is SAID, aloud!" for number in range(30)]


def text_data(tmp_path, name, texts, **options):
    (tmp_path / name).write_text("\n".join(json.dumps({"text": text}) for text in texts))
    defaults = {
        "train": str(tmp_path / name), "val": None, "test": {}, "batch_size": 4, "eval_batch_size": 4, "num_workers": 0,
        "seed": 0, "length": None, "max_length": 64, "tokenizer": None, "vocab_size": 300,
        "tokenizer_root": str(tmp_path / "tokenizers"),
    }  # fmt: skip
    return TextData(**defaults | options)


def test_documents_are_learnt_in_their_form(tmp_path):
    formed = text_data(tmp_path, "a.jsonl", TEXTS, text_form="lower")
    plain = text_data(tmp_path, "b.jsonl", [text.lower() for text in TEXTS])
    ids = [[list(sample.ids) for sample in each.samples("train").samples] for each in (formed, plain)]
    assert ids[0] == ids[1]
    assert formed.tokenizer_path != plain.tokenizer_path
    assert formed.tokenizer.decode(ids[0][3]) == TEXTS[3].lower()


def test_none_leaves_the_tokenizer_where_it_was(tmp_path):
    made = text_data(tmp_path, "a.jsonl", TEXTS)
    assert made.tokenizer.form is None and "-lower" not in str(made.tokenizer_path)


@pytest.mark.parametrize(
    ("form", "written"), [(None, "don't stop, ann"), ("as_is", "Don't STOP, Ann"), ("basic_english", "don't stop ann")]
)
def test_transcripts_are_in_their_form_instead_of_lower_case(form, written):
    data = SpeechData(
        train=None, val=None, test={}, batch_size=1, eval_batch_size=1, num_workers=0, seed=0, mel=None, cache=None, augment=None,
        speakers=None, test_kinds=None, max_seconds=1.0, lowercase=True, text_form=form,
    )  # fmt: skip
    assert data.spell(" Don't STOP, Ann ") == written


def test_an_unknown_form_is_refused(tmp_path):
    with pytest.raises(ValueError, match="text=upper: available are"):
        text_data(tmp_path, "a.jsonl", TEXTS, text_form="upper")


def test_the_pieces_of_a_tokenizer_count_ours_that_it_lacks(tmp_path):
    path = tmp_path / "tokenizer.model"
    Tokenizer.of_characters("abc ", path)
    assert pieces_of(str(path)) == 9 + 4
    with pytest.raises(FileNotFoundError, match=r"tokenizer=gone.model: no such file"):
        pieces_of("gone.model")
    path.write_bytes(b"nothing")
    with pytest.raises(ValueError, match="not a SentencePiece model"):
        pieces_of(str(path))
