"""Faults that a run with a falling loss may have, each planted in a small real stage and named within 50 steps; the same stage
without it raises no alarm."""

from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf

from callbacks.symptoms import (
    CutAudio,
    FrozenModules,
    HighRate,
    LostCodebooks,
    NoGradient,
    OneClass,
    ShiftedLabels,
    WithoutOptimizer,
)
from callbacks.symptoms.naming import modules_of
from muomni.batch import TextBatch
from muomni.models.thinker import Thinker
from muomni.nn.masks import SegmentMask
from muomni.optim.optimizers import adamw
from muomni.special_tokens import BOS, EOS, IGNORE, PAD, PIECES
from muomni.stages.codec import CodecStage
from tests.conftest import ROOT
from tests.unit.callbacks.test_doctor import alarms
from tests.unit.stages import test_ocr_stage as ocr
from tests.unit.stages import test_omni_sft_stage as omni
from tests.unit.stages import test_speech_stages as speech
from tests.unit.stages import test_thinker_stage as thinker
from tests.unit.stages import test_vision_stage as vision
from tests.unit.stages import test_vocoder_stage as vocoder

STEPS = 35  # with an examined one in five: seven
LOSSES = {"codec": ["l1", "l2", "commitment"], "talker": ["codebook_*", "stop", "place"]}


def text_stage():
    torch.manual_seed(0)
    model = Thinker(vocab_size=40, dim=16, num_layers=1, num_heads=2, num_kv_heads=2, ff_dim=32, max_length=32)
    return thinker.stage(model=model, training=speech.how()["training"])


def text_batch(documents=((5, 6, 7, 8, 9), (9, 5, 8, 6, 7, 10), (7, 11, 5))):
    """Documents packed into one row."""
    ids = torch.tensor([[token for document in documents for token in document]])
    segments = torch.tensor([[n for n, document in enumerate(documents, start=1) for _ in document]])
    targets = torch.full_like(ids, IGNORE)
    same = segments[:, 1:] == segments[:, :-1]
    targets[:, :-1][same] = ids[:, 1:][same]
    return TextBatch(
        ids=ids, targets=targets, lengths=torch.tensor([ids.shape[1]]), document_types=["k"] * len(documents),
        floors=torch.zeros(len(documents)), sample_ids=[str(n) for n in range(len(documents))],
        mask=SegmentMask.with_runs(segments),
    )  # fmt: skip


def codec_stage(decay=0.9):
    torch.manual_seed(0)
    model = speech.build_codec(codebook_size=8, decay=decay)
    return CodecStage(model=model, evaluator=lambda model, **_: None, **speech.how(commitment=0.25))


def written_batch():
    """The letters of `ocr.batch`, more of them."""
    data, (a, b) = ocr.batch(), (len(PIECES) + 65, len(PIECES) + 66)
    data.ids, data.texts = torch.tensor([[BOS, a, b, b], [BOS, b, a, PAD]]), ["abb", "ba"]
    data.targets = torch.tensor([[a, b, b, EOS], [b, a, EOS, IGNORE]])
    return data


STAGES = {
    "thinker": (text_stage, text_batch),
    "ocr": (ocr.make, written_batch),
    "vision": (vision.make, vision.batch),
    "audio": (speech.audio_stage, speech.batch),
    "codec": (codec_stage, speech.batch),
    "codec by gradient": (lambda: codec_stage(None), speech.batch),
    "talker": (lambda: speech.build_talker_stage(lambda talker, codec: None), speech.batch),
    "omni_sft": (omni.make, omni.batch),
    "vocoder": (vocoder.build, vocoder.batch),
}


@pytest.fixture(scope="module")
def defaults():
    """The symptoms of conf/callbacks/default.yaml, new ones each time; without the limits of rates, which are those of stages of
    their real width."""
    cfg = OmegaConf.load(ROOT / "conf" / "callbacks" / "default.yaml").doctor
    del cfg.symptoms.high_rate
    return lambda: instantiate(cfg.symptoms, _convert_="all")


@pytest.mark.parametrize("name", STAGES)
def test_no_alarm_in_a_healthy_stage(name, defaults, caplog, tmp_path):
    make, batch = STAGES[name]
    stage = make()
    steps = 10 if name == "vocoder" else STEPS
    assert alarms(stage, batch(), defaults(), caplog, tmp_path, steps=steps) == []


SHIFTED = [(name, by) for name in ("thinker", "ocr", "omni_sft") for by in (1, -1)]


@pytest.mark.parametrize(("name", "by"), SHIFTED)
def test_targets_shifted_in_the_batch(name, by, caplog, tmp_path):
    make, batch = STAGES[name]
    data = batch()
    data.targets = data.targets.roll(by, dims=1)
    [alarm] = alarms(make(), data, ShiftedLabels(until=100, patience=0), caplog, tmp_path, steps=5)
    what = "the current token instead of the next" if by == 1 else "the token after the next"
    assert f"labels are shifted by one: each target is {what}. Shift exactly once" in alarm


def test_one_label_a_row_has_no_neighbours():
    batch = SimpleNamespace(ids=torch.zeros(3, 7, dtype=torch.long), targets=torch.tensor([0, 1, 1]))
    stage = SimpleNamespace(trainer=SimpleNamespace(global_step=0))
    assert ShiftedLabels(until=100, patience=0).finding(stage, batch) is None


@pytest.mark.parametrize("by", [1, -1])
def test_targets_shifted_within_the_loss(by, caplog, tmp_path):
    stage = text_stage()
    inner = stage.next_token
    stage.next_token = lambda model, ids, targets, **how: inner(model, ids, targets.roll(by, dims=1), **how)
    [alarm] = alarms(stage, text_batch(), ShiftedLabels(until=100, patience=0), caplog, tmp_path, steps=5)
    assert "labels are shifted by one" in alarm


@pytest.mark.parametrize("by", [1, -1])
def test_codes_shifted_within_the_loss(by, caplog, tmp_path, monkeypatch):
    from muomni.stages import talker as stages

    inner = stages.talker_losses
    monkeypatch.setattr(
        stages, "talker_losses", lambda output, codes, lengths: inner(output, codes.roll(by, 1), lengths)
    )
    stage = speech.build_talker_stage(lambda talker, codec: None)
    [alarm] = alarms(stage, speech.batch(), ShiftedLabels(until=100, patience=0), caplog, tmp_path, steps=5)
    assert "in codebook 0" in alarm


def change_ids(data, by):
    data.characters = data.characters + by


def change_rows(data, by):
    data.characters = data.characters.roll(by, dims=0)


@pytest.mark.parametrize(("change", "by", "what"), [
    (change_ids, 1, "the id of each character is too large"), (change_ids, -1, "the id of each character is too small"),
    (change_rows, 1, "each clip has the text of the clip before"), (change_rows, -1, "each clip has the text of the clip after"),
])  # fmt: skip
def test_characters_of_a_recognizer(change, by, what, caplog, tmp_path):
    stage, data = speech.audio_stage(), speech.batch()
    stage.model.characters = "abcd"
    change(data, by)
    [alarm] = alarms(stage, data, ShiftedLabels(until=100, patience=0), caplog, tmp_path, steps=5)
    assert what in alarm


def without(name):
    """A stage whose step does not return a loss."""

    def make(stage):
        step = stage.step
        stage.step = lambda batch: {key: loss for key, loss in step(batch).items() if key != name}
        return stage

    return make


def still(stage):
    stage.model.quantizer.train = lambda mode=True: stage.model.quantizer
    stage.model.quantizer.training = False
    return stage


@pytest.mark.parametrize(("name", "plant", "what"), [
    ("talker", without("codebook_1"), "the loss codebook_1 is missing"),
    ("codec", without("commitment"), "the loss commitment is missing"),
    ("codec", still, "codebook 0 does not move"),
])  # fmt: skip
def test_a_codebook_without_a_loss(name, plant, what, caplog, tmp_path):
    make, batch = STAGES[name]
    symptom = LostCodebooks(losses=LOSSES, times=3, patience=0)
    [alarm] = alarms(plant(make()), batch(), symptom, caplog, tmp_path, steps=25)
    assert "a codebook is not taught" in alarm and what in alarm


@pytest.mark.parametrize(("name", "plant", "what"), [
    ("talker", without("codebook_1"), "model.heads.1 (2 of"),
    ("codec by gradient", without("commitment"), "model.quantizer"),
])  # fmt: skip
def test_no_gradient_without_the_loss(name, plant, what, caplog, tmp_path):
    make, batch = STAGES[name]
    [alarm] = alarms(plant(make()), batch(), NoGradient(times=4, patience=0), caplog, tmp_path, steps=25)
    assert "no gradient reaches" in alarm and what in alarm


def test_a_single_codebook_of_several_without_gradient(caplog, tmp_path):
    stage = codec_stage(None)
    stage.model.quantizer.codebooks.register_hook(lambda grad: grad * torch.tensor([0.0, 1.0])[:, None, None])
    [alarm] = alarms(stage, speech.batch(), NoGradient(times=4, patience=0), caplog, tmp_path, steps=25)
    assert "model.quantizer.codebooks[codebook 0]" in alarm


FROZEN = {
    "thinker": "model.transformer", "ocr": "model.vision", "vision": "text_tower", "audio": "model.encoder",
    "codec": "model.decoder", "codec by gradient": "model.quantizer", "talker": "model.text",
    "omni_sft": "model.image_projector", "vocoder": "discriminators",
}  # fmt: skip


@pytest.mark.parametrize("name", FROZEN)
def test_a_frozen_module_that_should_train(name, caplog, tmp_path):
    make, batch = STAGES[name]
    stage = make()
    stage.get_submodule(FROZEN[name]).requires_grad_(False)
    [alarm] = alarms(stage, batch(), FrozenModules(patience=0), caplog, tmp_path, steps=5)
    assert f"{FROZEN[name]} should train and is frozen" in alarm and "Take the requires_grad_(False) away" in alarm


def test_a_learning_rate_of_zero(caplog, tmp_path):
    stage = text_stage()
    factory = stage.optimizer_factory
    stage.optimizer_factory = lambda groups: factory([groups[0] | {"lr_scale": 0.0}, *groups[1:]])
    [alarm] = alarms(stage, text_batch(), FrozenModules(patience=0), caplog, tmp_path, steps=5)
    assert "thinker/matrices should train and has a learning rate of 0" in alarm


@pytest.mark.parametrize("name", STAGES)
def test_an_optimizer_that_misses_a_parameter(name, caplog, tmp_path):
    make, batch = STAGES[name]
    stage = make()
    factory, left_out = stage.optimizer_factory, []

    def forgetful(groups):
        left_out.append(groups[0]["params"].pop())
        return factory(groups)

    stage.optimizer_factory = forgetful
    [alarm] = alarms(stage, batch(), WithoutOptimizer(patience=0), caplog, tmp_path, steps=3)
    (key,) = [key for key, parameter in stage.named_parameters() if parameter is left_out[0]]
    said = alarm.split("the optimizer misses ")[1].split(" (1 of")[0]
    assert key == said or key.startswith(f"{said}."), "it, or the module that holds nothing else"


def one_class(batch):
    data = batch()
    for name in ("captions", "texts", "answers"):
        if hasattr(data, name):
            setattr(data, name, ["red"] * len(data.sample_ids))
    return data


@pytest.mark.parametrize("name", ["thinker", "ocr", "vision", "audio", "talker", "omni_sft"])
def test_a_data_set_of_one_class(name, caplog, tmp_path):
    make, batch = STAGES[name]
    data = text_batch(((5, 6, 7),) * 3) if name == "thinker" else one_class(batch)
    symptom = OneClass(samples=len(data.sample_ids), patience=0)
    [alarm] = alarms(make(), data, symptom, caplog, tmp_path, steps=3)
    assert "a data set of one class" in alarm


def clips(tmp_path, cut):
    """Eight noisy recordings that fade in and out, some of them cut off at half of their length; a batch of them."""
    rng, paths = np.random.default_rng(0), []
    for number in range(8):
        length = 16000 + 320 * number
        fade = np.sin(np.pi * np.arange(length) / length)
        wave = 0.3 * fade * rng.standard_normal(length).clip(-1, 1)
        paths.append(str(tmp_path / f"{number}.wav"))
        soundfile.write(paths[-1], wave[: length // 2] if number < cut else wave, 16000)
    data = speech.batch()
    data.audio = paths
    return data


@pytest.mark.parametrize(("cut", "count"), [(0, 0), (3, 1)])
def test_recordings_that_are_cut_off(cut, count, caplog, tmp_path):
    symptom = CutAudio(share=0.1, masked_share=0.25, clips=8, most=8, patience=0)
    found = alarms(speech.audio_stage(), clips(tmp_path, cut), symptom, caplog, tmp_path, steps=8)
    assert len(found) == count
    assert all("of the recordings, 3 of 8 end in the middle of a sound" in alarm for alarm in found)


@pytest.mark.parametrize("cut", [False, True])
def test_clips_that_a_datamodule_cuts_off(cut, caplog, tmp_path):
    data = speech.batch()
    fade = torch.sin(torch.pi * torch.arange(48) / 48)[None, :, None]
    data.mel = fade + 0.01 * torch.randn(4, 48, 16)
    data.mel_lengths = torch.full((4,), 24 if cut else 48)
    symptom = CutAudio(share=0.1, masked_share=0.25, clips=8, most=16, patience=0)
    found = alarms(speech.audio_stage(), data, symptom, caplog, tmp_path, steps=15)
    assert len(found) == cut and all("clips as they reach the model, 8 of 8 end" in alarm for alarm in found)


def test_a_learning_rate_ten_times_too_high(caplog, tmp_path):
    def trained(lr, limit):
        symptom = HighRate(limits={"thinker": limit}, patience=0)
        stage = text_stage()
        stage.optimizer_factory = lambda groups: adamw(groups, lr=lr, betas=(0.9, 0.98))
        return alarms(stage, text_batch(), symptom, caplog, tmp_path, steps=12), symptom.moved

    (none, low), (_, high) = trained(5e-3, float("inf")), trained(5e-2, float("inf"))
    assert high > 3 * low and none == []
    assert trained(5e-3, (low * high) ** 0.5)[0] == []
    [alarm] = trained(5e-2, (low * high) ** 0.5)[0]
    assert "the learning rate is too high" in alarm and "(0.05 now)" in alarm


def test_parameters_are_named_by_their_modules():
    everything = ["a.b.weight", "a.b.bias", "a.c.weight", "d"]
    assert modules_of(["a.b.weight", "a.b.bias"], everything) == "a.b"
    assert modules_of(["a.b.weight", "d"], everything) == "a.b.weight, d"
