"""A text as a stream: every character is a target once, the held-out end is not trained on, an epoch repeats."""

import numpy as np
import pytest

from datamodules.text_stream import StreamRows, TextStream, character_tokenizer
from muomni.frontends.tokenizer import Tokenizer

TEXT = "First Citizen:\nBefore we proceed any further, hear me speak.\n\nAll:\nSpeak, speak.\n" * 20


@pytest.fixture
def data(tmp_path):
    (tmp_path / "input.txt").write_text(TEXT)

    def make(**options):
        file = str(tmp_path / "input.txt")
        defaults = {
            "train": file, "val": file, "test": {"held_out": file}, "batch_size": 4, "eval_batch_size": 8, "num_workers": 0,
            "seed": 0, "length": 16, "max_length": 16, "tokenizer": None, "vocab_size": 9 + len(set(TEXT)),
            "tokenizer_root": str(tmp_path / "tokenizers"), "held_out": 0.1, "pieces": "characters",
        }  # fmt: skip
        return TextStream(**defaults | options)

    return make


def test_a_piece_is_a_character_and_lines_keep_their_ends(tmp_path):
    tokenizer = Tokenizer.load(character_tokenizer(TEXT, tmp_path))
    ids = tokenizer.encode(TEXT)
    assert len(ids) == len(TEXT) + 1 and tokenizer.decode(ids) == TEXT
    assert tokenizer.vocab_size == 9 + len(set(TEXT))


def test_the_held_out_end_is_read_whole_and_not_trained_on(data):
    made = data()
    text = "".join(made.tokenizer.decode(made.samples("train").ids.tolist()))
    cut = int(len(TEXT) * 0.9)
    assert len(text) == cut and TEXT.startswith(text)
    rows = made.samples("test/held_out")
    ids = np.concatenate([rows.item(index, -1).ids[1:] for index in range(len(rows))])
    assert made.tokenizer.decode(ids.tolist()) == TEXT[cut + 1 :]
    assert len(made.samples("val")) == len(rows)


@pytest.mark.parametrize(("held_out", "said"), [(0.1, False), (0.0, True)])
def test_validation_on_the_end_that_is_held_out_is_no_validation_on_training(data, caplog, held_out, said):
    data(held_out=held_out).samples("val")
    assert ("validation reads the rows of training" in caplog.text) == said


def test_a_row_is_a_function_of_its_index_and_epoch():
    ids = np.arange(1000, dtype=np.int32)
    rows, again = (StreamRows(ids, length=16, seed=3, train=True) for _ in range(2))
    starts = [int(rows.item(0, epoch).ids[0]) for epoch in range(6)]
    assert starts == [int(again.item(0, epoch).ids[0]) for epoch in range(6)]
    assert len(set(starts)) > 2 and max(starts) < 16
    last = rows.item(len(rows) - 1, 4).ids
    assert len(last) == 17


def test_batches_are_inputs_and_their_successors(data):
    batch = next(iter(data().train_dataloader()))
    assert batch.ids.shape == (4, 16) and batch.mask is None and batch.weights is None
    assert batch.ids[:, 1:].equal(batch.targets[:, :-1])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"held_out": 1.0}, "datamodule.held_out=1.0"),
        ({"length": None}, "datamodule.length=None"),
        ({"pieces": "words"}, "available are characters, bpe"),
        ({"vocab_size": 12}, "give vocab_size="),
    ],
)
def test_options_that_make_no_sense_are_refused(data, options, words):
    with pytest.raises(ValueError, match=words):
        data(**options)


def test_a_text_that_is_too_short_is_named(data, tmp_path):
    (tmp_path / "short.txt").write_text("ab")
    with pytest.raises(ValueError, match=r"short.txt: \d+ tokens are too few for rows of 16"):
        data(train=str(tmp_path / "short.txt"), pieces="characters", vocab_size=12).samples("train")
