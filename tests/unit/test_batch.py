"""Typed batches move as one, and special tokens have the ids that the tokenizer gives them."""

import torch

from muomni import special_tokens
from muomni.batch import TextBatch


def make(floors):
    ids = torch.zeros(1, 4, dtype=torch.long)
    return TextBatch(ids=ids, targets=ids, lengths=torch.ones(1), document_types=["k"], floors=floors, sample_ids=["a"])


def test_tensors_move_and_other_fields_stay():
    batch = make(torch.zeros(1))
    moved = batch.to("meta")
    assert moved is batch
    assert {tensor.device.type for tensor in (moved.ids, moved.targets, moved.lengths, moved.floors)} == {"meta"}
    assert (moved.document_types, moved.sample_ids) == (["k"], ["a"])


def test_what_is_missing_stays_missing():
    assert make(None).to("cpu").floors is None


def test_special_tokens_count_up_from_zero():
    names = ("UNK", "BOS", "EOS", "PAD", "USER", "ASSISTANT", "SYSTEM", "IMAGE", "AUDIO")
    assert [getattr(special_tokens, name) for name in names] == list(range(9))
    assert len(special_tokens.PIECES) == len(set(special_tokens.PIECES)) == 9
    assert torch.nn.CrossEntropyLoss().ignore_index == special_tokens.IGNORE
