"""Training a Talker that is told the states of a Thinker: it learns from them, and hands the Thinker over with it."""

from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from muomni.checkpoints.export import Export, load_export, save_export, weights_fingerprint
from muomni.evaluation.spoken_eval import SpokenAnswers
from muomni.evaluation.talker import TalkerEvaluator
from muomni.frontends.text_form import form_metadata
from muomni.frontends.tokenizer import Tokenizer
from muomni.inference.tts.speaker import Speaker
from muomni.inference.tts.text_states import TextStates
from muomni.models.talker import Talker
from muomni.models.thinker import Thinker
from muomni.run.initial_weights import load_into
from muomni.stages.talker import TalkerStage
from tests.unit.stages.test_omni_sft_stage import make
from tests.unit.stages.test_speech_stages import MEL, TEXTS, ToneJudge, batch, build_codec, how, learn

VOCODER = SimpleNamespace(spec=SimpleNamespace(**MEL))


def thinker_export(folder, *, seed=0, **metadata):
    """Of a Thinker of random weights, that reads letter by letter."""
    torch.manual_seed(seed)
    path = folder.parent / f"{folder.name}.model"
    tokenizer = Tokenizer.of_characters("abc ", path)
    thinker = Thinker(
        vocab_size=tokenizer.vocab_size, dim=24, num_layers=1, num_heads=2, num_kv_heads=2, ff_dim=32, max_length=32
    )
    facts = {"stage": "thinker", "tokenizer": tokenizer.fingerprint()} | metadata
    return save_export(folder, {"thinker": thinker}, metadata=facts, files={"tokenizer.model": path})


def told_stage(folder, **options):
    shape = {
        "num_symbols": 99, "num_speakers": 1, "text_layers": 1, "text_kernel": 3, "num_codebooks": 2, "codebook_size": 4,
        "dim": 32, "num_layers": 1, "num_heads": 2, "ff_dim": 32, "max_frames": 12, "shared_embedding": False,
        "alignment": "durations", "conditioning": "hidden", "state_width": 24,
    }  # fmt: skip
    torch.manual_seed(0)
    codec = Export({"codec": build_codec().eval()}, {"mel": MEL}, Path("checkpoints/codec"))
    voice = partial(Speaker, vocoder=VOCODER)
    evaluator = partial(TalkerEvaluator, voice=voice, vocoder=lambda mel: mel, judge=ToneJudge())
    return TalkerStage(
        model=Talker(**(shape | options)), codec=codec, aligner=ToneJudge(), evaluator=evaluator, disturbance=0.2,
        jitter=0.1, states=partial(TextStates.from_export, folder), **how(codebook_0=2.0),
    )  # fmt: skip


def hand_over(stage, folder):
    modules = stage.export_modules() | stage.bundled_modules()
    return save_export(folder, modules, metadata=stage.export_metadata(), files=stage.export_files())


def test_it_learns_codes_from_states_and_takes_the_thinker_along(tmp_path):
    folder = thinker_export(tmp_path / "thinker")
    stage = told_stage(folder)
    assert not any("thinker" in name for name in stage.state_dict()), "a checkpoint holds what is trained"
    before = weights_fingerprint(stage.states.thinker)
    learn(stage, 150)
    clips = batch()
    codes, _ = stage.codes(clips)
    said, _ = stage.evaluator.speaker.say(TEXTS, [0] * 4)
    assert all(len(row) == 6 for row in said) and torch.stack(said).eq(codes).float().mean() > 0.9
    assert weights_fingerprint(stage.states.thinker) == before
    assert stage.step_cost(clips).forward > told_cost(folder)

    export = load_export(hand_over(stage, tmp_path / "talker"))
    assert set(export.modules) == {"talker", "codec", "talker_thinker"}
    assert export.metadata["talker_thinker"] == before and export.tokenizer == (folder / "tokenizer.model").read_bytes()
    options = {"vocoder": lambda mel: mel, "judge": ToneJudge(), "mel": SimpleNamespace(sample_rate=16000)}
    export.metadata["codec_audio"] = {}  # so that no spectrogram is compared
    deferred = SimpleNamespace(metadata=export.metadata, folder=export.folder, load=lambda: export)
    spoken = SpokenAnswers(deferred, voice=partial(Speaker, vocoder=VOCODER), **options)
    answers = spoken.transcribe(TEXTS, TEXTS, torch.device("cpu"))
    for waveform, row in zip(answers.waveforms, said, strict=True):
        torch.testing.assert_close(waveform, stage.evaluator.waveform_of(row).detach())


def told_cost(folder):
    """Of the same Talker without the Thinker."""
    stage = told_stage(folder, conditioning="text", state_width=0)
    assert stage.states is None and stage.bundled_modules() == {} and stage.export_files() == {}
    assert "tokenizer" not in stage.export_metadata()
    return stage.step_cost(batch()).forward


def test_a_talker_of_another_thinker_is_not_measured_nor_resumed(tmp_path):
    one, other = thinker_export(tmp_path / "thinker"), thinker_export(tmp_path / "other", seed=1)
    talker = hand_over(told_stage(one), tmp_path / "talker")
    load_into(told_stage(one), talker)
    with pytest.raises(ValueError, match="talker: talker_thinker differs: it was trained with"):
        load_into(told_stage(other), talker)
    saved = {"global_step": 3, "export": {"document": {"facts": told_stage(one).export_metadata()}}}
    with pytest.raises(ValueError, match="checkpoint of step 3: talker_thinker differs"):
        told_stage(other).on_load_checkpoint(saved)


def test_states_that_do_not_fit_are_one_line(tmp_path):
    folder = thinker_export(tmp_path / "thinker")
    with pytest.raises(ValueError, match="thinker: states of its Thinker have 24 numbers, the Talker takes 8: leave"):
        told_stage(folder, state_width=8)
    formed = thinker_export(tmp_path / "formed", text=form_metadata("lower"))
    with pytest.raises(ValueError, match="formed: text differs: .*; give text= as it had"):
        told_stage(formed)
    with pytest.raises(FileNotFoundError, match="nowhere: no export here"):
        told_stage(tmp_path / "nowhere")


def test_an_omni_model_takes_both_where_the_tokenizer_is_its_own():
    modules = dict.fromkeys(("talker", "codec", "talker_thinker"))

    def omni(tokenizer):
        metadata = {"stage": "talker", "tokenizer": tokenizer, "talker_thinker": "abc", "run": {}}
        talker = SimpleNamespace(
            metadata=metadata, folder=Path("checkpoints/talker"), load=lambda: SimpleNamespace(modules=modules)
        )
        return make(talker=talker, evaluator=lambda **_: SimpleNamespace())

    stage = omni("f00")
    assert set(stage.bundled_modules()) == set(modules) and stage.export_metadata()["talker_thinker"] == "abc"
    with pytest.raises(ValueError, match="talker: tokenizer differs: .*; train stage=talker with this Thinker"):
        omni("another")
