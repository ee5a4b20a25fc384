"""A mean over batches is that of one large batch, whatever each holds: of a held-out split, and of a step's gradients."""

from dataclasses import fields, replace
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from datamodules.accumulation import Windows
from muomni.inference.asr.recognizer import ClipAlignment
from muomni.models.thinker import Thinker
from muomni.special_tokens import IGNORE, PAD
from muomni.stages.accumulation import split_means
from muomni.stages.audio import AudioStage
from muomni.stages.base import Stage
from muomni.stages.codec import CodecStage
from tests.ranks import run_ranks
from tests.unit.stages import test_ocr_stage, test_omni_sft_stage, test_speech_stages, test_thinker_stage


def thinker():
    torch.manual_seed(0)
    model = Thinker(
        vocab_size=20, dim=16, num_layers=1, num_heads=2, num_kv_heads=2, ff_dim=32, max_length=12, num_experts=2
    )
    long = torch.arange(8, 19).tolist()
    rows = [
        (long[:-1], long[1:]),
        ([9, 10, *[PAD] * 8], [10, *[IGNORE] * 9]),
        ([12, 9, 8, 11, *[PAD] * 6], [9, 8, 11, 10, *[IGNORE] * 6]),
    ]
    made = test_thinker_stage.batch(rows, ["x"] * 3, [0.0] * 3)
    made.weights = torch.where(made.targets == 10, 2.0, 1.0)
    made.lengths = torch.tensor([10, 2, 4])
    return test_thinker_stage.stage(model=model), made


def speech(stage):
    clips = test_speech_stages.batch()
    clips.mel_lengths = torch.tensor([48, 17, 30, 4])  # the last is too short for its text
    clips.character_lengths = torch.tensor([3, 1, 2, 3])
    clips.characters[1, 1:] = clips.characters[2, 2:] = 0
    clips.texts = ["abc", "b", "ca", "acb"]
    return stage, clips


def audio():
    torch.manual_seed(0)
    model = test_speech_stages.build_audio()
    return speech(AudioStage(model=model, evaluator=lambda model: None, **test_speech_stages.how()))


def codec():
    torch.manual_seed(0)
    model = test_speech_stages.build_codec(decay=None)
    return speech(CodecStage(model=model, evaluator=lambda model, **_: None, **test_speech_stages.how(l2=0.5)))


def talker():
    torch.manual_seed(0)
    stage = test_speech_stages.build_talker_stage(lambda talker, codec: None)
    stage.aligner.align = lambda paths, texts: [ClipAlignment(torch.arange(1, len(texts[0]) + 1) * 0.08, False)]
    stage.jitter = stage.disturbance = 0.0
    return speech(stage)


def ocr():
    return test_ocr_stage.make(), test_ocr_stage.batch()


def omni():
    """Rows of text alone: two answers of other lengths, and a replayed document."""
    stage, whole = test_omni_sft_stage.make(), test_omni_sft_stage.batch()
    ids = torch.tensor([[3, 10, 20, 21, 22, 23], [3, 11, 20, 5, PAD, PAD], [4, 12, 13, 14, 15, PAD]])
    targets = torch.full_like(ids, IGNORE)
    targets[0, 1:5], targets[1, 2], targets[2, :4] = ids[0, 2:], ids[1, 3], ids[2, 1:5]
    whole = replace(whole, ids=ids, targets=targets, lengths=torch.tensor([6, 4, 5]), images=None, mel=None)
    return stage, replace(
        whole, mel_lengths=None, image_rows=[], audio_rows=[], image_keys=[], audio_keys=[],
        replayed=torch.tensor([[False], [False], [True]]).expand(3, 6).clone(),
    )  # fmt: skip


def rows(batch, chosen):
    """Some rows of a batch, all fields."""
    count = len(batch.sample_ids)
    changed = {}
    for field in fields(batch):
        value = getattr(batch, field.name)
        if isinstance(value, Tensor) and value.shape[0] == count:
            changed[field.name] = value[chosen]
        elif isinstance(value, list) and len(value) == count:
            changed[field.name] = [value[row] for row in chosen]
    noted = {"target_indices": None} if hasattr(batch, "target_indices") else {}  # indices in the whole batch
    return replace(batch, **(changed | noted))


STAGES = [thinker, audio, codec, talker, ocr, omni]
stages = pytest.mark.parametrize("build", STAGES)


def learn_nothing(stage):
    """Its log calls go nowhere."""
    stage.log = stage.log_dict = lambda *arguments, **how: None


@stages
def test_a_held_out_loss_does_not_depend_on_the_size_of_batches(build):
    stage, batch = build()
    stage.eval()
    learn_nothing(stage)
    count = len(batch.sample_ids)
    with torch.no_grad():
        whole = stage.step(batch)
        for size in (1, 2):
            parts = [rows(batch, list(range(count))[at : at + size]) for at in range(0, count, size)]
            found = split_means([(stage.step(part), stage.counts(part)) for part in parts])
            for name, loss in whole.items():
                if name != "balance":  # a product of means
                    assert found[name] == pytest.approx(float(loss), rel=1e-5), (size, name)
        alone = stage.step(rows(batch, [0]))
    assert any(abs(float(alone[name]) - float(whole[name])) > 1e-3 for name in whole), "rows are alike"


def gradients(stage, batches, *, size):
    """Of steps of `size` batches, as Lightning would take them."""
    stage.zero_grad()
    steps = []
    for index, batch in enumerate(batches):
        (stage.training_step(batch, index) / size).backward()
        if (index + 1) % size == 0 or index + 1 == len(batches):
            steps.append({n: p.grad.clone() for n, p in stage.named_parameters() if p.grad is not None})
            stage.zero_grad()
    return steps


@stages
def test_accumulated_gradients_are_those_of_the_large_batch(build, monkeypatch):
    """Windows of two batches of one row each; the last window may hold one alone."""
    stage, batch = build()
    learn_nothing(stage)
    monkeypatch.setattr(type(stage), "trainer", SimpleNamespace(accumulate_grad_batches=2))
    stage.loss_weights["balance"] = 0.0
    count = len(batch.sample_ids)
    windows = Windows(2, float("inf"), lambda: 0, stage.counts)
    found = gradients(stage, list(windows.over(rows(batch, [row]) for row in range(count))), size=2)
    for step, got in enumerate(found):
        (want,) = gradients(stage, [rows(batch, list(range(count))[2 * step : 2 * step + 2])], size=1)
        assert got.keys() == want.keys()
        for name, gradient in want.items():
            torch.testing.assert_close(got[name], gradient, rtol=1e-4, atol=1e-6, msg=f"{step} {name}")


def share_of_two(batches):
    """The gradients of a step of several batches of which each rank has every second row, averaged over the ranks."""
    torch.distributed.init_process_group("gloo")
    stage, batch = thinker()
    learn_nothing(stage)
    type(stage).trainer = SimpleNamespace(accumulate_grad_batches=len(batches))
    stage.loss_weights["balance"] = 0.0
    own = [rows(batch, chosen[torch.distributed.get_rank() :: 2]) for chosen in batches]
    (found,) = gradients(stage, list(Windows(len(own), 9, lambda: 0, stage.counts).over(iter(own))), size=len(own))
    for gradient in found.values():
        torch.distributed.all_reduce(gradient)
    return {name: (gradient / 2).numpy() for name, gradient in found.items()}


def test_ranks_that_accumulate_have_the_gradients_of_the_large_batch(monkeypatch):
    """Every batch and every share has another number of targets."""
    batches = [[0, 1], [2, 1], [1, 0]]
    stage, batch = thinker()
    learn_nothing(stage)
    stage.loss_weights["balance"] = 0.0
    monkeypatch.setattr(type(stage), "trainer", SimpleNamespace(accumulate_grad_batches=1))
    (want,) = gradients(stage, [rows(batch, [row for chosen in batches for row in chosen])], size=1)
    for found in run_ranks(share_of_two, batches, ranks=2, timeout=120):
        for name, gradient in want.items():
            torch.testing.assert_close(torch.from_numpy(found[name]), gradient, rtol=1e-4, atol=1e-6, msg=name)


def test_the_loss_that_is_logged_is_the_steps(monkeypatch):
    stage, batch = thinker()
    said = []
    stage.log = lambda *arguments, **how: None
    stage.log_dict = lambda named, **how: said.append({name: float(value) for name, value in named.items()})
    monkeypatch.setattr(type(stage), "trainer", SimpleNamespace(accumulate_grad_batches=4))
    stage.eval()
    for index, part in enumerate(Windows(4, 3, lambda: 0, stage.counts).over(rows(batch, [row]) for row in range(3))):
        stage.training_step(part, index)
    whole = stage.step(batch)["next_token"]
    assert said[-1]["thinker/train/next_token"] == pytest.approx(float(whole), rel=1e-5)
    assert float(stage.losses["next_token"]) == pytest.approx(float(stage.step(part)["next_token"])), (
        "of the last batch"
    )


def test_windows_end_with_the_step_the_epoch_and_the_limit():
    class Batch(SimpleNamespace):
        window = None

    def sizes(done, limit, batches, size=3):
        made = Windows(size, limit, lambda: done, lambda batch: {"samples": batch.count}).over(
            Batch(count=n) for n in range(batches)
        )
        return [(len(batch.window.counts["samples"]), batch.window.index) for batch in made]

    assert sizes(0, float("inf"), 5) == [(3, 0), (3, 1), (3, 2), (2, 0), (2, 1)]
    assert sizes(3, 8, 5) == [(3, 0), (3, 1), (3, 2), (2, 0), (2, 1)], "taken up in the middle of an epoch"
    assert sizes(0, 4, 9)[:4] == [(3, 0), (3, 1), (3, 2), (1, 0)], "the trainer stops here"


def test_a_split_weighs_by_targets_by_hand():
    """Means 1 of three targets and 5 of one: 2, not 3; a batch without targets says nothing; unknown losses count samples."""
    batches = [
        ({"token": torch.tensor(1.0), "pair": torch.tensor(2.0)}, {"token": torch.tensor(3), "samples": 1}),
        ({"token": torch.tensor(5.0), "pair": torch.tensor(6.0)}, {"token": torch.tensor(1), "samples": 3}),
        ({"token": torch.tensor(float("nan"))}, {"token": torch.tensor(0), "samples": 9}),
    ]
    assert split_means(batches) == {"token": 2.0, "pair": 5.0}


def test_every_stage_counts_under_the_names_of_its_losses():
    for build in STAGES:
        stage, batch = build()
        learn_nothing(stage)
        assert stage.step(batch).keys() <= stage.target_counts(batch).keys() <= {*stage.loss_names}, stage.name
        assert type(stage).target_counts is not Stage.target_counts
