"""Text data: packed rows cover the text, targets are shifted, of questions the answer alone is learnt."""

import itertools
import json
import math
import re

import numpy as np
import pytest
import torch

from datamodules.text import Documents, PackedRows, TextData, windows
from muomni.special_tokens import BOS, EOS, IGNORE, PAD

WORDS = ["the", "red", "circle", "is", "above", "a", "blue", "square", "and", "ann", "lives", "in", "paris"]


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(WORDS, rng.integers(3, 12))) for _ in range(120)]
    rows = [{"id": f"d{i}", "text": text, "kind": "story", "logprob": -float(i)} for i, text in enumerate(texts)]
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    questions = [{"id": "q", "kind": "fact", "prompt": "where is ann?", "answer": "paris"}]
    (tmp_path / "qa.jsonl").write_text("".join(json.dumps(row) + "\n" for row in questions))
    return tmp_path


def make(folder, **how):
    options = {
        "train": str(folder / "train.jsonl"), "val": str(folder / "train.jsonl"),
        "test": {"qa": str(folder / "qa.jsonl")}, "length": 32, "max_length": 64,
        "tokenizer": None, "vocab_size": 300, "tokenizer_root": str(folder / "tokenizers"),
        "batch_size": 4, "eval_batch_size": 8, "num_workers": 0, "seed": 0,
    }  # fmt: skip
    return TextData(**(options | how))


def test_rows_of_an_epoch_cover_the_stream():
    documents = [np.array([BOS, 10 + i, EOS]) for i in range(20)]
    rows = PackedRows(documents, length=7, seed=0)
    samples = [rows.item(i, 0) for i in range(len(rows))]
    assert len(rows) == 8
    assert all(len(sample.ids) == 8 for sample in samples)
    for one, two in itertools.pairwise(samples):
        assert one.ids[-1] == two.ids[0], "the last target of a row is the first input of the next"
    seen = np.concatenate([sample.ids[:-1] for sample in samples])
    assert sorted(set(seen) - {BOS, EOS}) == sorted(set(range(10, 30)) & set(seen))
    assert list(rows.item(2, 0).ids) == list(samples[2].ids)
    assert list(rows.item(2, 1).ids) != list(samples[2].ids)


def test_training_batch_is_full_and_shifted(folder):
    data = make(folder)
    batch = next(iter(data.train_dataloader()))
    assert batch.ids.shape == batch.targets.shape == (4, 32)
    assert torch.equal(batch.ids[:, 1:], batch.targets[:, :-1])
    assert not (batch.targets == IGNORE).any()


def test_without_a_length_documents_of_similar_lengths_share_a_batch(folder):
    data = make(folder, length=None)
    samples = data.samples("train")
    batches = list(data.train_dataloader())
    seen = [name for batch in batches for name in batch.sample_ids]
    assert len(seen) == len(set(seen)) == len(samples) // 4 * 4
    assert all((batch.ids[:, 0] == BOS).all() for batch in batches)
    widths = [batch.lengths.max() - batch.lengths.min() for batch in batches]
    assert max(widths) <= 3 < max(len(s.ids) for s in samples.samples) - min(len(s.ids) for s in samples.samples)


def test_a_document_is_measured_whole_with_its_floor(folder):
    data = make(folder)
    batch = next(iter(data.val_dataloader()))
    row = 3
    length = int(batch.lengths[row])
    assert (
        data.tokenizer.decode(batch.targets[row, : length - 1].tolist())
        == json.loads((folder / "train.jsonl").read_text().splitlines()[row])["text"]
    )
    assert (batch.ids[row, 0], batch.targets[row, length - 1]) == (BOS, EOS)
    assert (batch.ids[row, length:] == PAD).all()
    assert (batch.targets[row, length:] == IGNORE).all()
    assert batch.floors[row] == 3.0
    assert batch.document_types[row] == "story"


def test_of_a_question_only_the_answer_is_learnt(folder):
    data = make(folder)
    batch = next(iter(data.test_dataloader()[0]))
    learnt = batch.targets[0] != IGNORE
    assert not learnt[0]
    assert data.tokenizer.decode(batch.targets[0][learnt].tolist()) == "paris"
    assert batch.targets[0][learnt][-1] == EOS
    assert data.tokenizer.decode(batch.ids[0][: int((~learnt).sum()) + 1].tolist()) == "where is ann?"
    assert math.isnan(batch.floors[0])


@pytest.mark.parametrize("kind", ["train", "val"])
def test_a_document_longer_than_a_row_comes_in_windows_that_hold_each_token_once(folder, kind):
    data = make(folder, length=None, max_length=8, pack=10)
    rows = [json.loads(line)["text"] for line in (folder / "train.jsonl").read_text().splitlines()]
    samples = data.samples(kind).samples
    for number, text in enumerate(rows):
        whole = [BOS, *data.tokenizer.encode(text), EOS]
        pieces = [sample for sample in samples if sample.sample_id.split(" ")[0] == f"d{number}"]
        assert [*pieces[0].ids[:1], *(token for piece in pieces for token in piece.ids[1:])] == whole
        assert all(len(piece.ids) <= 9 and piece.document_type == "story" for piece in pieces)
        assert max(len(p.ids) for p in pieces) - min(len(p.ids) for p in pieces) <= 1, "no window of a single token"
        assert len(pieces) == 1 or all(math.isnan(piece.floor) for piece in pieces)
    assert any(len(sample.ids) < 9 and sample.floor > 0 for sample in samples), "what is whole keeps its floor"
    assert len({sample.sample_id for sample in samples}) == len(samples)


@pytest.mark.parametrize("length", [1, 4, 5, 6, 9, 10, 11, 40])
def test_windows_are_equal_and_overlap_by_one(length):
    pieces = windows(np.arange(length + 1), max_length=5)
    assert [int(piece[0]) for piece in pieces[1:]] == [int(piece[-1]) for piece in pieces[:-1]]
    assert [*pieces[0], *(x for piece in pieces[1:] for x in piece[1:])] == list(range(length + 1))
    assert len(pieces) == math.ceil(length / 5) and max(map(len, pieces)) <= 6


def test_a_long_question_is_learnt_in_windows_and_not_asked(folder, caplog):
    questions = [
        {"id": "long", "prompt": "where is ann? " * 6, "answer": "paris and the blue square"},
        {"id": "q", "prompt": "where?", "answer": "in"},
    ]
    (folder / "qa.jsonl").write_text("".join(json.dumps(row) + "\n" for row in questions))
    data = make(folder, length=None, max_length=12, val=str(folder / "qa.jsonl"))
    learnt = Documents(questions, data.tokenizer, max_length=12).samples
    answer = [*data.tokenizer.encode(questions[0]["answer"]), EOS]
    targets = [token for s in learnt if s.sample_id != "q" for token in s.ids[1 + s.prompt :].tolist()]
    assert targets == answer, "of every window the answer's tokens alone, and a window without any is none"
    assert [sample.sample_id for sample in data.samples("test/qa").samples] == ["q"]
    assert re.search(
        r"qa\.jsonl: 1 of 2 rows are left out: .*; the first: long: Too many tokens: \d+ > 12$", caplog.text, re.M
    )
    with pytest.raises(ValueError, match=r"qa\.jsonl: long: Too many tokens: \d+ > 4"):
        make(folder, max_length=4).samples("test/qa")


@pytest.mark.parametrize("length", [None, 32])
def test_questions_and_answers_alone_are_text_enough_to_train_on(folder, length):
    rows = [{"prompt": f"question: where is {name}? answer:", "answer": f"in {name}land"} for name in WORDS * 4]
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = make(folder, length=length, vocab_size=290)
    batch = next(iter(data.train_dataloader()))
    assert len(batch.ids) == 4 and (batch.targets != IGNORE).any()
    assert data.tokenizer.decode(data.tokenizer.encode("circleland")) == "circleland"


def test_the_tokenizer_is_trained_once_for_the_same_text(folder):
    first = make(folder)
    again = make(folder)
    assert again.tokenizer_path == first.tokenizer_path
    metadata = first.metadata()
    assert metadata["tokenizer"] == first.tokenizer_path
    assert metadata["tokenizer_fingerprint"] == first.tokenizer.fingerprint()
    assert metadata["decode"](first.tokenizer.encode("a word")) == "a word"
    with (folder / "train.jsonl").open("a") as file:
        file.write(json.dumps({"text": "more words than before"}) + "\n")
    assert make(folder).tokenizer_path != first.tokenizer_path
    assert make(folder, tokenizer=str(first.tokenizer_path)).tokenizer.fingerprint() == first.tokenizer.fingerprint()


def test_no_tokenizer_and_no_text_are_errors(folder):
    with pytest.raises(FileNotFoundError, match=r"datamodule\.tokenizer=.*none: no such file"):
        make(folder, tokenizer=str(folder / "none"))
    with pytest.raises(ValueError, match=r"give datamodule\.tokenizer=PATH or data\.train=PATH"):
        make(folder, train=None)


def test_packed_documents_are_those_of_the_batch(folder):
    data = make(folder, length=None, pack=40, batch_size=12)
    batch = next(iter(data.train_dataloader()))
    samples = {sample.sample_id: sample.ids.tolist() for sample in data.samples("train").samples}
    found = []
    for ids, targets, segments in zip(batch.ids, batch.targets, batch.mask.segment_ids, strict=True):
        for number in range(1, int(segments.max()) + 1):
            here = segments == number
            assert ids[here][1:].tolist() == targets[here][:-1].tolist()
            found.append([*ids[here].tolist(), int(targets[here][-1])])
    assert sorted(found) == sorted(samples[name] for name in batch.sample_ids)
    assert batch.ids.shape[1] <= 40 and int(batch.lengths.sum()) == sum(len(ids) - 1 for ids in found)


@pytest.mark.parametrize("layout", [{"length": None, "pack": 60}, {"length": None, "pack": None}, {"length": 40}])
def test_answers_count_more_in_training_alone(folder, layout):
    text = "ann met bob. question: where is ann? answer: in paris question: where is bob? answer: rome"
    (folder / "train.jsonl").write_text("".join(json.dumps({"id": f"d{i}", "text": text}) + "\n" for i in range(8)))
    data = make(folder, **layout, answer_weight=3.0, vocab_size=300)
    batch = next(iter(data.train_dataloader()))
    assert batch.weights.shape == batch.targets.shape
    heavy = batch.targets[batch.weights == 3].tolist()
    answers = [data.tokenizer.encode("in paris"), data.tokenizer.encode("rome")]
    ends = [data.tokenizer.encode("question:")[0], EOS]
    expected = [*answers[0], ends[0], *answers[1], ends[1]]
    if layout["length"] is None:  # else rows begin and end anywhere
        assert sorted(heavy) == sorted(expected * 4)
    assert set(heavy) <= set(expected) | {IGNORE}
    assert next(iter(data.val_dataloader())).weights is None
    assert next(iter(make(folder, **layout, vocab_size=300).train_dataloader())).weights is None


def test_without_questions_all_targets_count_alike(folder):
    batch = next(iter(make(folder, answer_weight=3.0).train_dataloader()))
    assert bool((batch.weights == 1).all())


def test_a_share_of_the_training_documents_is_the_first_ones_and_evaluation_keeps_all(folder, caplog):
    whole = [f"d{i}" for i in range(120)]
    data = make(folder, length=None, train_share=0.2)
    seen = [row for batch in data.train_dataloader() for row in batch.sample_ids]
    assert sorted(seen) == sorted(whole[:24])
    assert sorted(row for batch in data.val_dataloader() for row in batch.sample_ids) == sorted(whole)
    assert (
        "96 of 120 rows are left out: the first are enough for this budget (datamodule.train_share=0.2)" in caplog.text
    )
    for share in (0.0, 1.5):
        with pytest.raises(ValueError, match="train_share"):
            make(folder, train_share=share)
