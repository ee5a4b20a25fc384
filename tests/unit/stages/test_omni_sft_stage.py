"""Instruction tuning on tiny parts: what learns, what is measured, what is handed over."""

from functools import partial
from pathlib import Path

import pytest
import torch

from muomni.batch import OmniBatch
from muomni.checkpoints.export import Export
from muomni.evaluation.omni_metrics import OmniState, omni_metrics
from muomni.evaluation.omni_sft import OmniSftEvaluator
from muomni.inference.batch import greedy_answers
from muomni.models.audio import Audio
from muomni.models.projector import AudioProjector, ImageProjector
from muomni.models.thinker import Thinker
from muomni.models.vision import VisionTransformer
from muomni.optim.optimizers import adamw
from muomni.optim.schedule import warmup_stable_decay
from muomni.special_tokens import ASSISTANT, AUDIO, BOS, EOS, IGNORE, IMAGE, PAD, USER
from muomni.stages.omni_sft import OmniSftStage
from muomni.stages.position_init import cell_names
from muomni.stages.training_options import TrainingOptions
from tests.measure import measure

WORDS = {20: "red", 21: "blue", 22: "yes", 23: "no"}


def export(stage, metadata, **parts):
    return Export(parts, {"stage": stage, **metadata}, Path(f"checkpoints/{stage}"))


def make(lr_multipliers=None, **changes):
    torch.manual_seed(0)
    thinker = Thinker(vocab_size=40, dim=16, num_layers=2, num_heads=2, num_kv_heads=2, ff_dim=32, max_length=40)
    vision = VisionTransformer(image_size=8, patch=4, dim=8, num_layers=1, num_heads=2, ff_dim=16)
    audio = Audio(
        n_mels=8, num_symbols=6, channels=2, downsample=4, dim=8, num_layers=1, num_heads=2, ff_dim=16, conv_kernel=0
    )
    options = {
        "thinker": export("thinker", {"tokenizer": "f00"}, thinker=thinker),
        "vision": export("vision", {"image": {"size": 8}}, vision=vision),
        "audio": export("audio", {"mel": {"bins": 8}}, audio=audio),
        "image_projector": ImageProjector(dim=8, out_dim=16, image_tokens="grid", grid=2, cell=1, positions=0.1),
        "audio_projector": AudioProjector(dim=8, out_dim=16, stack=2, characters=6, words=True),
        "evaluator": partial(OmniSftEvaluator, speech=None, answers=greedy_answers, max_new_tokens=4), "talker": None,
        "cache_mb": 1, "place_words": False, "length_exponent": 0.5,
        "lr_multipliers": {"thinker": 1.0, "projectors": 1.0, "vision": 0.0, "audio": 0.0} | (lr_multipliers or {}),
        "image": {"size": 8}, "mel": {"bins": 8}, "tokenizer": "tokenizer.model", "tokenizer_fingerprint": "f00",
        "encode": lambda text: [len(word) for word in text.split()],
        "decode": lambda ids: " ".join(WORDS.get(index, str(index)) for index in ids if index != EOS),
    }  # fmt: skip
    training = {
        "optimizer": partial(adamw, lr=1e-2, betas=(0.9, 0.98), adam_ratio=1.0),
        "schedule": partial(warmup_stable_decay, max_steps=80, warmup_steps=2, decay_fraction=0.4, final=0.1),
        "weight_decay": 0.0, "loss_weights": {}, "compile_model": False,
    }  # fmt: skip
    training |= {key: changes.pop(key) for key in training if key in changes}
    return OmniSftStage(training=TrainingOptions(**training), **(options | changes))


def batch():
    """Two pictures with one question and two answers, and a clip to write down."""
    torch.manual_seed(1)
    picture = [IMAGE] * 4 + [BOS, USER, 10, ASSISTANT]
    rows = [[*picture, 20, EOS], [*picture, 21, EOS], [AUDIO, AUDIO, BOS, USER, 11, ASSISTANT, 22, 23, EOS, 3]]
    ids = torch.tensor(rows)
    targets = torch.full_like(ids, IGNORE)
    targets[:2, 7:9] = ids[:2, 8:10]
    targets[2, 5:8] = ids[2, 6:9]
    return OmniBatch(
        ids=ids, targets=targets, lengths=torch.tensor([10, 10, 9]), images=torch.randn(2, 3, 8, 8),
        mel=torch.randn(1, 16, 8), mel_lengths=torch.tensor([16]), image_rows=[0, 1], audio_rows=[2],
        image_keys=["a.png", "b.png"], audio_keys=["a.wav"], questions=["what colour?"] * 2 + ["what was said?"],
        answers=["red", "blue", "yes no"], tasks=["image_qa", "image_qa", "asr"],
        meta=[{"question": "colour", "pair": "p"}] * 2 + [{"question": "asr"}], sample_ids=["i", "j", "k"],
    )  # fmt: skip


def test_it_learns_from_pictures_and_sound_and_the_controls_say_so():
    stage, data = make(), batch()
    frozen = [parameter.clone() for parameter in stage.model.vision.parameters()]
    optimizer = stage.configure_optimizers()["optimizer"]
    stage.train()
    for _ in range(80):
        optimizer.zero_grad()
        stage.total_loss(stage.step(data)).backward()
        optimizer.step()
    assert all(torch.equal(a, b) for a, b in zip(frozen, stage.model.vision.parameters(), strict=True))
    stage.eval()
    metrics = measure(stage, data, split="test_iid")
    assert metrics["image_colour"] == metrics["image_colour_pairs"] == 100
    assert metrics["image_colour_shuffled"] == 0 and metrics["image_colour_blind"] <= 50
    assert metrics["image_colour_majority"] == 50 and metrics["asr_cer"] == 0
    answers = {(shown["id"], shown["answer"]) for shown in stage.evaluator.examples}
    assert answers == {("i", "red"), ("j", "blue"), ("k", "yes no")}


def test_recordings_have_controls_where_they_are_wanted():
    evaluator = partial(OmniSftEvaluator, speech=None, answers=greedy_answers, max_new_tokens=4, audio_controls=True)
    stage, data = make(evaluator=evaluator), batch()
    data.ids = torch.cat([data.ids, data.ids[2:]])
    data.ids[3, 6] = 21  # the same words, another clip: "blue no"
    data.targets = torch.cat([data.targets, data.targets[2:]])
    data.targets[3, 5] = 21
    data.lengths = torch.tensor([10, 10, 9, 9])
    data.mel, data.mel_lengths = torch.cat([data.mel, torch.randn(1, 16, 8)]), torch.tensor([16, 16])
    data.audio_rows, data.audio_keys = [2, 3], ["a.wav", "b.wav"]
    for task, names in (("word", {"word"}), ("asr", {"asr_cer", "asr_wer"})):
        data.tasks, data.answers = ["image_qa"] * 2 + [task] * 2, ["red", "blue", "yes no", "blue no"]
        data.meta, data.sample_ids = [{"question": "colour"}] * 2 + [{"question": task}] * 2, list("ijkl")
        data.questions = ["what?"] * 4
        optimizer = stage.configure_optimizers()["optimizer"]
        stage.train()
        for _ in range(60):
            optimizer.zero_grad()
            stage.total_loss(stage.step(data)).backward()
            optimizer.step()
        stage.eval()
        metrics = measure(stage, data, split="test")
        assert {f"{name}_{control}" for name in names for control in ("blind", "shuffled")} < set(metrics)
        best = 100 if task == "word" else 0
        assert all(metrics[name] == best != metrics[f"{name}_shuffled"] for name in names)
        assert all(metrics[f"{name}_blind"] != best for name in names)


def test_cached_features_are_the_encoders_own():
    stage, data = make().eval(), batch()
    fresh = stage.model.encode(images=data.images, mel=data.mel, mel_lengths=data.mel_lengths)
    first, again = stage.step(data)["answer"], stage.step(data)["answer"]
    assert first == again
    assert torch.allclose(stage.cache.images(stage.model, data), fresh.images, atol=1e-6)
    data.images = torch.zeros_like(data.images)  # known keys are not encoded again
    assert torch.allclose(stage.cache.images(stage.model, data), fresh.images, atol=1e-6)


def test_what_training_encoded_under_autocast_is_encoded_again_to_be_measured_without():
    stage, data = make(), batch()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        stage.step(data)
    stage.evaluator.reset("test")
    stage.evaluator.update(data)
    fresh = stage.model.encode(images=data.images, mel=data.mel, mel_lengths=data.mel_lengths)
    assert torch.equal(stage.cache.images(stage.model, data), fresh.images)
    assert torch.equal(stage.cache.audios(stage.model, data)[0], fresh.audios)


def test_a_full_cache_encodes_each_time():
    stage, data = make(cache_mb=0), batch()
    stage.eval()
    before = stage.cache.images(stage.model, data)
    data.images = torch.zeros_like(data.images)
    assert not torch.allclose(stage.cache.images(stage.model, data), before)


def test_rates_say_what_learns():
    assert [name for name, _, _ in make().trained_modules()] == ["thinker", "image_projector", "audio_projector"]
    stage = make(lr_multipliers={"vision": 0.1})
    assert ("vision", 0.1) in [(name, rate) for name, _, rate in stage.trained_modules()]
    stage.train()
    stage.step(batch())["answer"].backward()
    assert stage.model.vision.stem.project.weight.grad is not None and stage.cache is None
    assert not any(parameter.requires_grad for parameter in stage.model.audio.parameters())
    assert not stage.model.audio.training and stage.model.vision.training


def test_plain_questions_are_also_put_to_the_thinker_as_it_came(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)  # where there is no checkpoints/thinker, as there is after make demo
    stage, data = make().eval(), batch()
    data.tasks = ["plain", "plain", "asr"]
    data.meta = [{"question": "fact"}] * 2 + [{"question": "asr"}]
    data.ids[data.ids == IMAGE] = 12
    data.images, data.image_rows, data.image_keys = None, [], []
    for parameter in stage.model.thinker.parameters():
        parameter.data.zero_()
    assert {"text_fact", "text_fact_before"} < set(measure(stage, data, split="plain"))
    assert any(parameter.abs().sum() > 0 for parameter in stage.evaluator.reference.on(stage.device).parameters())


def test_exports_of_other_settings_are_refused():
    with pytest.raises(ValueError, match="checkpoints/vision: image differs.*'size': 8.*'size': 9"):
        make(image={"size": 9})
    with pytest.raises(ValueError, match="tokenizer differs"):
        make(tokenizer_fingerprint="bad")


def test_without_an_encoder_the_rest_works():
    stage, data = make(audio=None).eval(), batch()
    assert list(stage.export_modules()) == ["thinker", "vision", "image_projector"]
    assert set(stage.export_metadata()) == {"stage", "tokenizer", "image"}
    with pytest.raises(ValueError, match="no audio encoder"):
        stage.step(data)


def test_scores_compare_spoken_with_the_same_typed_questions():
    state = OmniState()
    for name, right in (("a", True), ("b", False)):
        state.add_answer(task="image_qa", meta={"question": "count"}, answer="2", sample_id=name, right=right)
    for typed, right in (("a", True), ("elsewhere", False)):
        state.add_answer(
            task="spoken_image_qa", meta={"question": "count", "typed": typed}, answer="2", sample_id="s", right=right
        )
    metrics = omni_metrics(state)
    assert metrics["spoken_image_qa"] == 50 and metrics["spoken_image_qa_typed"] == 100
    assert metrics["image_mean"] == metrics["image_count"] == 50


def test_places_start_as_the_words_for_them():
    stage = make(place_words=True)  # its encode gives the lengths of words
    words, places = stage.model.thinker.embedding.weight, stage.model.image_projector.positions
    expected = [words[3] + words[4], words[3] + words[5], words[6] + words[4], words[6] + words[5]]
    torch.testing.assert_close(places.data, torch.stack(expected).detach())


def test_names_of_places():
    assert cell_names(1) == ["centre"]
    assert cell_names(2) == ["top left", "top right", "bottom left", "bottom right"]
    assert cell_names(3)[3:6] == ["middle left", "centre", "middle right"]
    assert len(set(cell_names(6))) == 9 and cell_names(6)[-1] == "bottom right"


def test_replayed_documents_are_a_loss_of_their_own():
    stage = make(length_exponent=0.0)
    whole = stage.step(batch())["answer"]
    given = batch()
    given.replayed = torch.tensor([False, False, True])[:, None].expand_as(given.ids)
    losses = stage.step(given)
    answers, replayed = (given.targets[:2] != IGNORE).sum(), (given.targets[2] != IGNORE).sum()
    total = answers * losses["answer"] + replayed * losses["replay"]
    torch.testing.assert_close(total / (answers + replayed), whole)


def test_experts_of_the_thinker_stay_balanced():
    shape = {"dim": 16, "num_layers": 2, "num_heads": 2, "num_kv_heads": 2, "ff_dim": 32, "max_length": 40}
    thinker = Thinker(vocab_size=40, num_experts=4, **shape)
    stage, data = make(thinker=export("thinker", {"tokenizer": "f00"}, thinker=thinker)), batch()
    losses = stage.step(data)
    assert set(losses) == {"answer", "balance"}
    data.ids, data.targets = (
        torch.nn.functional.pad(each, (0, 3), value=value) for each, value in ((data.ids, PAD), (data.targets, IGNORE))
    )
    torch.testing.assert_close(stage.step(data)["balance"], losses["balance"])


def test_image_tokens_none_is_a_model_without_eyes():
    blind = ImageProjector(dim=8, out_dim=16, image_tokens="none", grid=2, cell=1)
    stage, data = make(image_projector=blind, place_words=True), batch()
    assert stage.model.vision is None and stage.model.image_tokens == 0
    assert (
        set(stage.export_modules()) == {"thinker", "audio", "audio_projector"}
        and "image" not in stage.export_metadata()
    )
    with pytest.raises(ValueError, match="no vision encoder"):
        stage.step(data)
    heard = OmniBatch(
        ids=data.ids[2:], targets=data.targets[2:], lengths=data.lengths[2:], images=None, mel=data.mel,
        mel_lengths=data.mel_lengths, image_rows=[], audio_rows=[0], image_keys=[], audio_keys=["a.wav"],
        questions=["what was said?"], answers=["yes no"], tasks=["asr"], meta=[{"question": "asr"}], sample_ids=["k"],
    )  # fmt: skip
    stage.step(heard)["answer"].backward()
    stage.eval()
    assert {name.split("_")[0] for name in measure(stage, heard)} == {"asr"}


def test_captions_of_pictures_whose_objects_nobody_named_are_left_out_and_counted(caplog):
    state = OmniState()
    state.add_caption("a dog on the beach", None)
    assert omni_metrics(state) == {} and "caption_f1 leaves out 1 captions" in caplog.text
    state.add_caption("a red dot", [{"colour": "red", "shape": "dot"}])
    assert omni_metrics(state) == {"caption_f1": 100.0}
