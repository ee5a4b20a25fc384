"""What is watched, and that it is named and counted: word for word as the safety table of the reference has it."""

import logging

import pytest
import torch
from torch import nn

from callbacks import finite_guard
from callbacks.finite_guard import FiniteGuard, count_broken, known_whole
from muomni.batch import SpeechBatch, TextBatch
from muomni.models.audio import Audio
from muomni.models.codec import Codec
from muomni.models.talker import Talker
from muomni.models.thinker import Thinker
from muomni.models.vision import VisionTransformer


def thinker():
    shape = {"vocab_size": 11, "dim": 8, "num_layers": 1, "num_heads": 2, "num_kv_heads": 2, "ff_dim": 8}
    return Thinker(**shape, max_length=8)


def talker():
    return Talker(
        num_symbols=5, num_speakers=1, text_layers=1, text_kernel=3, num_codebooks=3, codebook_size=4, dim=8,
        num_layers=1, num_heads=2, ff_dim=8, max_frames=9, shared_embedding=False,
    )  # fmt: skip


def audio():
    return Audio(
        n_mels=16, num_symbols=5, channels=4, downsample=4, dim=8, num_layers=1, num_heads=2, ff_dim=8, conv_kernel=0
    )


def codec():
    return Codec(
        n_mels=4, stride=2, dim=4, num_codebooks=2, codebook_size=4, num_layers=1, width=8, kernel=3, ff_dim=8, decay=0.9,
        dropout=0.0, idle=0.1,
    )  # fmt: skip


def vision():
    return VisionTransformer(image_size=8, patch=4, dim=8, num_layers=1, num_heads=2, ff_dim=8)


class Holder(nn.Module):
    """As much of a stage as the guard looks at."""

    device, name = torch.device("cpu"), "toy"

    def __init__(self, part):
        super().__init__()
        self.part, self.losses = part, {"loss": torch.tensor(1.0)}


def text_batch(weights=None):
    ids = torch.zeros(2, 4, dtype=torch.long)
    nothing = torch.full((2,), float("nan"), dtype=torch.double)
    return TextBatch(ids, ids, torch.full((2,), 4), ["a", "b"], nothing, ["one", "two"], weights=weights)


def breaks(module, values, index=(0,)):
    """Write values into the first numbers of a module's output, of the row `index`."""

    def plant(module, arguments, output):
        broken = output.clone()
        broken[index].view(-1)[: len(values)] = torch.tensor(values)
        return broken

    return module.register_forward_hook(plant)


def watch(part, forward):
    """What the guard says of one batch of `forward`."""
    guard, stage = FiniteGuard(max_loss=1e6, patience=3), Holder(part)
    guard.on_train_start(None, stage)
    guard.on_train_batch_start(None, stage, text_batch(), 0)
    forward()
    guard.on_before_backward(None, stage, None)
    total = guard.statistic(stage, None)
    guard.on_train_end(None, stage)
    return guard.reason(float(total), float(total))


nan, inf = float("nan"), float("inf")
IDS = torch.zeros(2, 4, dtype=torch.long)


def test_a_healthy_forward_raises_no_objection():
    model = thinker()
    assert watch(model, lambda: model(IDS)) is None


@pytest.mark.parametrize("broken", [[nan, nan, nan], [inf, -inf], [nan, inf], [-inf]])
def test_the_thinkers_logits(broken):
    """-Inf alone leaves the loss finite: only this check sees it."""
    model = thinker()
    breaks(model.head, broken)
    counts = sum(value != value for value in broken)
    said = f"Numerical instability in Thinker: NaN={counts}, Inf={len(broken) - counts}"
    assert watch(model, lambda: model(IDS)) == said


def test_the_thinkers_head_is_watched_where_it_is_called_alone():
    """As stage=omni_sft does."""
    model = thinker()
    breaks(model.head, [nan])
    assert watch(model, lambda: model.head(torch.zeros(3, 8))) == "Numerical instability in Thinker: NaN=1, Inf=0"


@pytest.mark.parametrize(("head", "name"), [(0, "Talker base"), (1, "Talker residual"), (2, "Talker residual")])
def test_the_talkers_codebooks_apart(head, name):
    model = talker()
    breaks(model.heads[head], [nan, inf])
    speak = lambda: model(IDS, torch.full((2,), 4), torch.zeros(2, 3, 3, dtype=torch.long), speakers=IDS[:, 0])  # noqa: E731
    assert watch(model, speak) == f"Numerical instability in {name}: NaN=1, Inf=1"


def test_both_residual_codebooks_are_added_up():
    model = talker()
    breaks(model.heads[1], [nan, nan])
    breaks(model.heads[2], [nan, inf])
    speak = lambda: model(IDS, torch.full((2,), 4), torch.zeros(2, 3, 3, dtype=torch.long), speakers=IDS[:, 0])  # noqa: E731
    assert watch(model, speak) == "Numerical instability in Talker residual: NaN=3, Inf=1"


def test_the_audio_encoder():
    model = audio()
    breaks(model.encoder.transformer.norm, [nan, nan])
    assert watch(model, lambda: model(torch.zeros(1, 16, 16))).startswith(
        "Numerical instability in audio encoder: NaN=2, Inf=0"
    )


@pytest.mark.parametrize(("token", "name"), [(0, "ViT CLS"), (2, "ViT grid")])
def test_cls_and_grid_apart(token, name):
    model = vision()
    breaks(model.transformer.norm, [nan, nan], index=(0, token))
    assert watch(model, lambda: model(torch.zeros(1, 3, 8, 8))) == f"Numerical instability in {name}: NaN=2, Inf=0"


def test_the_codecs_mel():
    model = codec()
    breaks(model.decoder, [inf])
    assert watch(model, lambda: model(torch.zeros(1, 8, 4))) == "Numerical instability in codec: NaN=0, Inf=1"


@pytest.mark.parametrize("loss", [nan, inf, -2e6, 1.5e6])
def test_the_loss(loss):
    guard, stage = FiniteGuard(max_loss=1e6, patience=3), Holder(thinker())
    stage.losses["loss"] = torch.tensor(loss)
    guard.on_train_batch_start(None, stage, text_batch(), 0)
    guard.on_before_backward(None, stage, None)
    assert guard.statistic(stage, None) == 1
    assert guard.reason(1, 1) == f"loss {loss:g} is not within -1e+06 and 1e+06"
    assert guard.reason(0, 1) == "Numerical instability on another rank"


def speech_batch(mel):
    long = torch.ones(len(mel), 2, dtype=torch.long)
    return SpeechBatch(mel, long[:, 0] * mel.shape[1], long, long[:, 0], long[:, 0], ["a"], ["a.wav"], ["clip-1"])


def test_inputs_are_named_and_reach_no_network():
    guard, stage = FiniteGuard(max_loss=1e6, patience=3), Holder(codec())
    batch = speech_batch(torch.zeros(1, 8, 4))
    batch.mel[0, 3, :2] = torch.tensor([nan, inf])
    guard.on_train_batch_start(None, stage, batch, 0)
    assert torch.equal(batch.mel, torch.zeros(1, 8, 4))
    guard.on_before_backward(None, stage, None)
    assert guard.statistic(stage, None) == 2
    assert guard.reason(2, 2) == "Numerical instability in input mel: NaN=1, Inf=1"


def test_what_may_be_unknown_is_no_input():
    guard, stage = FiniteGuard(max_loss=1e6, patience=3), Holder(thinker())
    guard.on_train_batch_start(None, stage, text_batch(weights=torch.ones(2, 4)), 0)
    assert guard.statistic(stage, None) == 0, "`floors` of NaN: no generator is known"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_counting_is_exact_and_a_sum_tells_when_it_is_needed(monkeypatch, dtype):
    x = torch.zeros(300, 300, dtype=dtype)
    assert known_whole(x) and known_whole(x[:0]) and known_whole(x[0])
    for value in (nan, inf, -inf):
        x[7, 7] = value
        assert not known_whole(x) and not known_whole(x[7]) and not known_whole(x[:, 5:9])
    x[8, 8], x[9, 9] = nan, inf
    assert count_broken(x).tolist() == [1, 2]
    assert count_broken(x[:0]).tolist() == [0, 0]
    monkeypatch.setattr(finite_guard, "FREE_TO_READ", ())
    assert not known_whole(torch.zeros(2)), "elsewhere reading would wait: it is counted"


def test_a_sum_that_overflows_is_no_alarm():
    model = thinker()
    breaks(model.head, [3e38, 3e38])
    assert watch(model, lambda: model(IDS)) is None


def test_validation_is_not_watched(toy, caplog):
    """Its outputs change no weight."""
    guard = FiniteGuard(max_loss=1e6, patience=1)
    stage, data, trainer = toy(guard)
    stage.part = thinker()
    breaks(stage.part.head, [nan])
    stage.on_validation_start = lambda: stage.part(IDS)
    trainer.limit_val_batches = 1
    with caplog.at_level(logging.WARNING):
        trainer.fit(stage, datamodule=data)
    assert guard.skipped == 0


@pytest.mark.slow
def test_a_compiled_thinker_is_watched_too():
    model = thinker()
    breaks(model.head, [nan, inf, inf])
    model.compile()
    assert watch(model, lambda: model(IDS)) == "Numerical instability in Thinker: NaN=1, Inf=2"
    healthy = thinker()
    healthy.compile()
    assert watch(healthy, lambda: healthy(IDS)) is None
