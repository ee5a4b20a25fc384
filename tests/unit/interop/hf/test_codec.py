"""Codecs of Hugging Face folders: in, out bit by bit, what is refused, and the Talker that speaks through one."""

import json
from functools import partial

import pytest
import soundfile
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from safetensors.torch import load_file, save_file

from muomni.batch import SpeechBatch
from muomni.checkpoints.export import load_export, save_export
from muomni.cli.help import CONF
from muomni.evaluation.talker import TalkerEvaluator
from muomni.frontends.audio_io import read_audio
from muomni.frontends.text_normalizer import LETTERS, normalize_text
from muomni.inference.asr.recognizer import ClipAlignment
from muomni.inference.load import load_model
from muomni.inference.tts.speaker import Speaker
from muomni.inference.tts.speech_decoder import WaveformDecoder
from muomni.inference.tts.speech_stream import synthesize, synthesize_stream
from muomni.interop.hf.__main__ import main
from muomni.interop.hf.codec import export_codec, load_codec
from muomni.models.talker import Talker
from muomni.optim.optimizers import adamw
from muomni.run.pretrained import settle_codec
from muomni.stages.talker import TalkerStage
from muomni.stages.training_options import TrainingOptions
from tests.measure import measure
from tests.unit.inference.tts.test_speech_stream import rendered_late
from tests.unit.models.hf_codecs import CONFIGS, random_codec

pytest.importorskip("transformers")
TEXTS = ["abc", "bca", "cab", "acb"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """model_type -> the folder that transformers' save_pretrained wrote, and the model in it."""
    root, found = tmp_path_factory.mktemp("hf"), {}
    for model_type in CONFIGS:
        model = random_codec(model_type)
        model.save_pretrained(root / model_type)
        found[model_type] = root / model_type, model
    return found


@pytest.mark.parametrize("model_type", CONFIGS)
def test_a_folder_comes_in_and_leaves_bit_by_bit(folders, model_type, tmp_path, capsys):
    folder, model = folders[model_type]
    assert main(["import", str(folder), f"out={tmp_path / 'codec'}"]) == 0
    notes = capsys.readouterr().err
    codec = load_export(tmp_path / "codec").modules["codec"]
    assert f"codec: {model_type}, 1600 Hz" in notes and codec.num_codebooks == 4
    theirs = {f"model.{key}": value for key, value in model.state_dict().items()}
    ours = codec.state_dict()
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[key], theirs[key]) for key in ours)
    direct = load_codec(folder).modules["codec"].state_dict()
    assert all(torch.equal(ours[key], direct[key]) for key in ours)
    export_codec(load_codec(tmp_path / "codec").modules["codec"], tmp_path / "back")
    before, after = (load_file(each / "model.safetensors") for each in (folder, tmp_path / "back"))
    assert before.keys() == after.keys() and all(torch.equal(before[key], after[key]) for key in before)
    configs = [json.loads((each / "config.json").read_text()) for each in (folder, tmp_path / "back")]
    assert configs[0] == configs[1]


def test_weight_norms_by_their_former_names(folders, tmp_path):
    folder, model = folders["encodec"]
    tensors = load_file(folder / "model.safetensors")
    former = {
        key.replace(".parametrizations.weight.original0", ".weight_g").replace(
            ".parametrizations.weight.original1", ".weight_v"
        ): value
        for key, value in tensors.items()
    }
    assert former.keys() != tensors.keys()
    (tmp_path / "config.json").write_text((folder / "config.json").read_text())
    save_file(former, tmp_path / "model.safetensors", metadata={"format": "pt"})
    ours = load_codec(tmp_path).modules["codec"].state_dict()
    assert all(torch.equal(ours[f"model.{key}"], value) for key, value in model.state_dict().items())


def changed(folder, to, *, config=None, tensors=None):
    """A copy of a folder with other values of config.json (None: without) and other tensors."""
    to.mkdir()
    values = json.loads((folder / "config.json").read_text()) | (config or {})
    (to / "config.json").write_text(json.dumps(values))
    held = load_file(folder / "model.safetensors") | (tensors or {})
    save_file({k: v for k, v in held.items() if v is not None}, to / "model.safetensors", metadata={"format": "pt"})
    return to


BIAS = "decoder.conv1.bias"


@pytest.mark.parametrize(
    ("config", "tensors", "message"),
    [
        ({}, {BIAS: None}, rf"bad: the tensor {BIAS} is missing, which config.json asks for"),
        ({}, {BIAS: torch.zeros(3)}, rf"bad: {BIAS} has shape \(3,\), config.json asks for \(32,\)"),
        ({}, {"more.bias": torch.zeros(3)}, r"bad/model.safetensors: unexpected tensor more.bias"),
        ({}, {BIAS: torch.full((32,), torch.nan)}, r"holds NaN=32"),
        ({}, {BIAS: torch.zeros(32, dtype=torch.int32)}, rf"{BIAS} is of I32"),
        ({"n_codebooks": 5}, {}, r"the tensor quantizer.quantizers.4.codebook.weight is missing"),
        ({"codebook_size": 33}, {}, r"bad/config.json: .*power of 2"),
        ({"auto_map": {"AutoModel": "mine.Codec"}}, {}, r"auto_map asks for code"),
        ({"model_type": "llama"}, {}, r"bad/config.json: model_type='llama' is no codec that is read; they are"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_named(folders, tmp_path, config, tensors, message):
    folder = changed(folders["dac"][0], tmp_path / "bad", config=config, tensors=tensors)
    with pytest.raises(ValueError, match=message):
        load_codec(folder)


# --- speech -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model_type", CONFIGS)
def test_a_stream_is_the_utterance_and_the_decoding_of_all_codes(folders, model_type):
    codec = load_codec(folders[model_type][0]).modules["codec"]
    decoder = WaveformDecoder(codec)
    sentences = [torch.randint(32, (rows, 3), generator=torch.Generator().manual_seed(rows)) for rows in (230, 3, 71)]
    whole = synthesize(sentences, decoder)
    chunks = list(synthesize_stream((list(codes) for codes in sentences), decoder))
    assert torch.equal(torch.cat(chunks), whole) and len(chunks) >= 6
    pause = torch.zeros(320)
    with torch.inference_mode():
        at_once = [codec.decode(codes[None])[0].clamp(-1, 1) for codes in sentences]
    expected = torch.cat([at_once[0], pause, at_once[1], pause, at_once[2]])
    torch.testing.assert_close(whole, expected, atol=2e-5, rtol=0)
    assert torch.equal(rendered_late(sentences, decoder), whole)


class Listener:
    """A judge that notes the lengths of the waveforms that it transcribes."""

    def __init__(self):
        self.lengths = []

    def on(self, device):
        return self

    def in_words(self, text):
        return normalize_text(text, LETTERS).text

    def words(self, waveform, text):
        return [(text, 0.0, 0.1)]

    def __call__(self, waveforms):
        self.lengths.append([len(waveform) for waveform in waveforms])
        return ["abc" for _ in waveforms]

    def align(self, paths, texts):
        return [ClipAlignment(torch.tensor([0.08, 0.24, 0.40]), False) for _ in texts]

    def too_short(self, waveforms, texts):
        return [False] * len(texts)

    def read(self, paths):
        waveforms = [read_audio(path, 16000) for path in paths]
        return waveforms, self(waveforms)


def clips(folder):
    """Four recordings of 0.48 s, of which a spectrogram is in the batch as always."""
    noise = torch.Generator().manual_seed(0)
    for text in TEXTS:
        soundfile.write(folder / f"{text}.wav", 0.3 * torch.randn(7680, generator=noise).numpy(), 16000)
    return SpeechBatch(
        mel=torch.zeros(4, 48, 16), mel_lengths=torch.full((4,), 48),
        characters=torch.tensor([[ord(c) - 96 for c in text] for text in TEXTS]), character_lengths=torch.full((4,), 3),
        speakers=torch.zeros(4, dtype=torch.long), texts=list(TEXTS), audio=[folder / f"{text}.wav" for text in TEXTS],
        sample_ids=list(TEXTS),
    )  # fmt: skip


def build_stage(codec, judge):
    talker = Talker(
        num_symbols=99, num_speakers=1, text_layers=1, text_kernel=3, num_codebooks=2, codebook_size=32, dim=32, num_layers=1,
        num_heads=2, ff_dim=32, max_frames=90, shared_embedding=False,
    )  # fmt: skip
    training = TrainingOptions(
        optimizer=lambda groups: adamw(groups, lr=5e-3, betas=(0.9, 0.98), adam_ratio=1.0),
        schedule=lambda optimizer: torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1.0),
        weight_decay=0.0, loss_weights={"codebook_0": 2.0}, compile_model=False,
    )  # fmt: skip
    voice = partial(Speaker, vocoder=None)
    evaluator = partial(TalkerEvaluator, voice=voice, vocoder=lambda mel: mel, judge=judge)
    return TalkerStage(
        model=talker, codec=codec, aligner=judge, evaluator=evaluator, disturbance=0.2, jitter=0.1, training=training,
        mel={"sample_rate": 16000, "hop": 160, "bins": 16},
    )  # fmt: skip


def test_a_talker_learns_to_speak_through_it(folders, tmp_path):
    torch.manual_seed(0)
    batch, judge = clips(tmp_path), Listener()
    stage = build_stage(load_codec(folders["mimi"][0]), judge)
    stage.log = lambda *_, **__: None
    codes, lengths = stage.codes(batch)
    assert codes.shape == (4, 48, 2) and lengths.tolist() == [48] * 4  # 100 a second
    with torch.inference_mode():
        alone = stage.codec.encode(read_audio(batch.audio[1], 1600)[None])[..., :2]
    assert torch.equal(codes[1:2], alone)
    assert int(stage.target_counts(batch)["codebook_1"]) == 4 * 48
    optimizer, losses = stage.configure_optimizers()["optimizer"], []
    stage.train()
    for _ in range(12):
        total = stage.total_loss(stage.step(batch))
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        losses.append(float(total.detach()))
    assert losses[-1] < losses[0]
    assert not any(parameter.requires_grad for parameter in stage.codec.parameters())
    metrics = measure(stage.eval(), batch)
    assert metrics["cer_codec"] == metrics["cer_recorded"] > 0
    assert [7680] * 4 in judge.lengths  # the codec's resynthesis, at the judge's rate
    modules, metadata = stage.export_modules(), stage.export_metadata()
    assert metadata["codec_audio"] == {"sample_rate": 1600, "hop": 16} and "codec_mel" not in metadata
    check_engine(save_export(tmp_path / "talker", modules, metadata=metadata, files={}))


def check_engine(folder):
    """An export's speech, whole, in a batch and as a stream."""
    engine = load_model(folder, device="cpu")
    assert engine.speech_rate == 1600 and engine.vocoder_note == "vocoder: none, the codec (mimi) makes waveforms"
    spoken = engine.speak(["abc. cab", "b"])
    assert engine.speaker.pace == 8.0 and spoken[0].timings.vocoder == "mimi"
    assert torch.equal(spoken[1].waveform, engine.generate_speech("b"))
    assert torch.equal(torch.cat(list(engine.generate_speech_stream("abc. cab"))), spoken[0].waveform)
    assert len(spoken[0].waveform) == len(spoken[0].codes) * 16 + 320
    with pytest.raises(
        ValueError, match=r"vocoder=griffin_lim: the codec of .*talker makes waveforms itself; leave vocoder out"
    ):
        load_model(folder, device="cpu", vocoder="griffin_lim")


def test_a_codec_of_other_codebooks_is_refused(folders):
    torch.manual_seed(0)
    export = load_codec(folders["dac"][0])
    export.modules["codec"].codebook_size = 64
    with pytest.raises(
        ValueError, match=r"dac: the codec has 4 codebooks of 64, the Talker speaks 2 of 32; set backbone"
    ):
        build_stage(export, Listener())


def settled(*overrides):
    """The configuration of a run."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose("train", overrides=["stage=talker", *overrides], return_hydra_config=True)
    settle_codec(cfg, overrides)
    return cfg


def test_a_run_takes_the_codecs_numbers(folders):
    cfg = settled("codec=hf", f"codec.path={folders['dac'][0]}", "backbone.talker.num_codebooks=3")
    talker = cfg.backbone.talker
    assert (talker.num_codebooks, talker.codebook_size, talker.max_frames) == (3, 32, 12800)
    assert list(cfg.stage.needs) == ["audio"]
    assert instantiate(cfg.module.codec).modules["codec"].name == "dac"
    assert list(settled().stage.needs) == ["audio", "codec"]


def test_a_run_that_could_not_speak_through_it_is_refused(folders):
    path = f"codec.path={folders['dac'][0]}"
    with pytest.raises(ValueError, match="stage=audio chooses no codec"):
        settled("codec=hf", path, "stage=audio")
    with pytest.raises(ValueError, match=r"datamodule.augment changes spectrograms"):
        settled("codec=hf", path, "+datamodule.augment={speed: 0.1}")
