"""codec=waveform: stage=codec trains it, the Talker follows its numbers, and no other stage takes one for the other."""

import pytest
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate

from muomni.cli.errors import CONF
from muomni.evaluation.waveform_codec import WaveformCodecEvaluator
from muomni.run.identity import identity
from muomni.run.pretrained import settle_codec
from muomni.run.stage_graph import shared_overrides
from muomni.stages.codec import CodecStage
from muomni.stages.waveform_codec import WaveformCodecStage


def settled(*overrides):
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose("train", overrides=list(overrides), return_hydra_config=True)
    settle_codec(cfg, overrides)
    return cfg


def test_what_stage_codec_trains_follows_the_choice():
    mel, waveform = settled("stage=codec"), settled("stage=codec", "codec=waveform", "codec.quantizer=fsq")
    assert mel.module._target_.endswith(CodecStage.__name__)
    assert waveform.module._target_.endswith(WaveformCodecStage.__name__)
    assert waveform.module.evaluator._target_.endswith(WaveformCodecEvaluator.__name__)
    codec = instantiate(waveform.module.model)
    assert type(codec.quantizer).__name__ == "FiniteScalarQuantizer" and codec.frame_rate == 25.0
    assert not {"augment", "characters", "max_seconds"} & set(waveform.datamodule), "nothing is left of the other"
    assert waveform.paths.exports.codec != mel.paths.exports.codec


def test_the_talker_has_the_numbers_of_the_codec():
    cfg = settled("stage=talker", "codec=waveform", "codec.hop=1280", "codec.stride=8", "codec.num_codebooks=4")
    talker = cfg.backbone.talker
    assert (talker.num_codebooks, talker.codebook_size, talker.max_frames) == (4, 1024, 1000)
    assert settled("stage=talker", "codec=waveform").backbone.talker.max_frames == 2000
    asked = settled("stage=talker", "codec=waveform", "backbone.talker.num_codebooks=2")
    assert asked.backbone.talker.num_codebooks == 2 and list(asked.stage.needs) == ["audio", "codec"]


def test_prerequisites_are_trained_with_the_same_codec():
    words = ["codec=waveform", "codec.hop=320", "optim.lr=1", "size=nano"]
    assert (
        shared_overrides(words, stage="codec") == shared_overrides(words, stage="talker") == [*words[:2], "size=nano"]
    )
    assert shared_overrides(words, stage="audio") == ["size=nano"]


def test_runs_of_two_codecs_are_two():
    with initialize_config_dir(str(CONF), version_base="1.3"):
        plain = [compose("train", overrides=["stage=talker", f"codec={codec}"]) for codec in ("mel", "waveform")]
    assert len({identity(dict(cfg)) for cfg in plain}) == 2


def test_a_stage_that_cannot_use_it_says_so():
    with pytest.raises(ValueError, match="codec=waveform: stage=vocoder is for a codec of mels"):
        settled("stage=vocoder", "codec=waveform")
    with pytest.raises(ValueError, match="augment changes spectrograms, codec=waveform reads recordings"):
        settled("stage=talker", "codec=waveform", "+datamodule.augment={speed: 0.1}")
