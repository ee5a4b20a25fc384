"""codec=waveform from the first step to the sound of an answer: trained, spoken through, streamed, measured; two steps each."""

from pathlib import Path

import torch

import train
from muomni.checkpoints.export import load_export
from muomni.cli import ablations
from muomni.cli.composition import compose_words
from muomni.frontends.audio_io import read_audio
from muomni.inference.load import load_model
from tests.conftest import run_script

TINY = (
    "codec=waveform", "size=nano", "budget=ci", "data.preset=ci", "prerequisites=error", "resume=never", "trainer.max_steps=2",
    "trainer.val_check_interval=2", "trainer.limit_val_batches=1", "trainer.accelerator=cpu", "trainer.precision=32-true",
    "schedule.warmup_steps=1", "callbacks.progress=null", "datamodule.num_workers=0", "datamodule.batch_size=2",
    "codec={width: 64, ff_dim: 64, num_layers: 1, frame_layers: 1, dim: 8, codebook_size: 16, num_codebooks: 2}",
)  # fmt: skip


def trained(stage: str, root: Path, line: Path, *more: str) -> dict[str, float]:
    """The metrics of a stage, with the recognizer and the world of the line of all stages."""
    words = [f"stage={stage}", *TINY, f"paths.root={root}", f"paths.data={line}/data",
             f"paths.exports.audio={line}/checkpoints/audio", *more]  # fmt: skip
    ablations.register()
    return train.run(compose_words(words), output=root / stage, overrides=words)


def test_a_talker_speaks_through_a_codec_that_was_trained_here(line, tmp_path):
    codec = trained("codec", tmp_path, line, "module.adversarial_from=0.5", "datamodule.test_clips=4")
    assert {"codec/test/cer_resynthesis", "codec/test/mel_l1", "codec/test/stoi_resynthesis"} <= set(codec)
    made = load_export(tmp_path / "checkpoints" / "waveform_codec", ["codec"])
    assert made.metadata["codec_audio"] == {"sample_rate": 16000, "hop": 640}
    talker = trained("talker", tmp_path, line, "backbone.talker.max_frames=25")
    assert {"talker/test/cer", "talker/test/cer_codec"} <= set(talker)
    folder = tmp_path / "checkpoints" / "talker"
    engine = load_model(folder, device="cpu")
    assert engine.vocoder_note == "vocoder: none, the codec (fourier) makes waveforms" and engine.speech_rate == 16000
    said = engine.generate_speech("abc. cab")
    assert torch.equal(torch.cat(list(engine.generate_speech_stream("abc. cab"))), said)
    done = run_script("infer.py", f"ckpt={folder}", "text=abc. cab", f"audio_out={tmp_path / 'a.wav'}")
    assert done.returncode == 0 and "the codec (fourier) makes waveforms" in done.stderr, done.stderr[-2000:]
    torch.testing.assert_close(read_audio(tmp_path / "a.wav", 16000), said, atol=1e-3, rtol=0)
