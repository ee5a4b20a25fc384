"""Questions about one picture in one row, each seeing the picture and itself alone: what the model says of each is what it
says of that question asked singly."""

import pytest
import torch

from datamodules.conversations import branch_positions
from datamodules.packing import bin_pack, pack, pad_packed
from muomni.models.thinker import Thinker
from muomni.nn.masks import SegmentMask
from muomni.special_tokens import BOS, IGNORE, IMAGE


@pytest.mark.parametrize("short_conv", [0, 4])
@pytest.mark.parametrize("window", [None, 6])
def test_each_question_is_what_it_is_alone(short_conv, window):
    torch.manual_seed(0)
    thinker = Thinker(
        vocab_size=60, dim=32, num_layers=2, num_heads=2, num_kv_heads=1, ff_dim=48, max_length=64,
        short_conv=short_conv,
        window=window,
    ).eval()  # fmt: skip
    if short_conv:  # it starts as the identity, which would hide who mixes with whom
        for block in thinker.transformer.blocks:
            torch.nn.init.normal_(block.attention.short_conv.weight)
    slots, questions = 4, [torch.randint(20, 60, (n,)) for n in (7, 5, 9)]
    questions = [torch.cat([torch.tensor([BOS]), question]) for question in questions]
    ids = torch.cat([torch.full((slots,), IMAGE), *questions])
    parts = torch.cat(
        [torch.zeros(slots, dtype=torch.long), *(torch.full((len(q),), n) for n, q in enumerate(questions, 1))]
    )
    before = torch.randint(20, 60, (6,))  # another sample in the same row
    samples = [(ids, torch.full_like(ids, IGNORE)), (before, torch.full_like(before, IGNORE))]
    rows = bin_pack([len(ids), len(before)], width=40)
    packed, _, segments = pack(samples, rows)
    every = [parts, torch.zeros_like(before)]
    picture = torch.randn(slots, 32)

    def logits(row, **how):
        x = thinker.embedding(row)
        x = x.masked_scatter((row == IMAGE)[..., None], picture)
        return thinker(row, embeddings=x, **how).logits[0]

    positions = pad_packed([branch_positions(each) for each in every], rows, fill=0)
    together = logits(packed, mask=SegmentMask(segments, pad_packed(every, rows, fill=0), positions))
    start = slots
    for question in questions:
        alone = logits(torch.cat([torch.full((slots,), IMAGE), question])[None])
        torch.testing.assert_close(together[start : start + len(question)], alone[slots:], atol=1e-5, rtol=1e-4)
        start += len(question)
    torch.testing.assert_close(together[len(ids) :], thinker(before[None]).logits[0])
