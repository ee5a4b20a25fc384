"""Encoders of Hugging Face folders against transformers itself: the same numbers, whatever a batch is padded by."""

import json
import re
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn.utils.rnn import pad_sequence

from muomni.checkpoints.export import load_export, read_description
from muomni.frontends.mel import MelSpec
from muomni.frontends.pretrained_audio import audio_frontend
from muomni.inference.load import load_model
from muomni.interop.hf.__main__ import main
from muomni.interop.hf.encoders import describe_path, import_encoder, is_encoder, load_encoder
from muomni.interop.hf.folder import read_config, read_folder
from muomni.models import flops
from tests.unit.interop.hf.encoder_folders import AUDIOS, IMAGES, edit_json, make

TOLERANCE = 1e-4


def imported(tmp_path, name):
    """The model of transformers, and the module and facts of our export of it."""
    theirs = make(tmp_path / "hf", name)
    import_encoder(read_folder(tmp_path / "hf"), tmp_path / "export")
    export = load_export(tmp_path / "export")
    (ours,) = export.modules.values()
    return theirs, ours, export.metadata


@pytest.mark.parametrize("name", IMAGES)
def test_an_image_encoder_computes_what_transformers_does(tmp_path, name):
    theirs, ours, _ = imported(tmp_path, name)
    images = torch.randn(3, 3, 32, 32)
    tower = getattr(theirs, "vision_model", None) or getattr(theirs, "dinov2", None) or getattr(theirs, "vit", theirs)
    resized = {} if name.startswith("dinov2") else {"interpolate_pos_encoding": name == "vit_labels"}
    with torch.no_grad():
        output, mine = tower(pixel_values=images, **resized), ours(images)
    hidden, tokens = output.last_hidden_state, 0 if name.startswith("siglip") else 1
    assert (mine.grid - hidden[:, tokens:]).abs().max() < TOLERANCE
    pooled = output.pooler_output if name.startswith(("clip", "siglip")) else hidden[:, 0]
    pooled = hidden.mean(1) if pooled is None else pooled
    assert (mine.cls[:, 0] - pooled).abs().max() < TOLERANCE
    assert ours.side == 4 and mine.grid.shape == (3, 16, 32)
    assert flops.vision(ours, 3).forward > 0
    with pytest.raises(ValueError, match="images of 16 x 16, the encoder was made for 32"):
        ours(torch.randn(1, 3, 16, 16))


def clips(spec):
    """Two noises and a hum, of lengths that transformers' frames use up."""
    torch.manual_seed(1)
    lengths = [spec.win + spec.hop * frames for frames in (90, 40, 7)]
    tone = torch.sin(torch.arange(lengths[2]) * 0.2) * 0.3
    return [torch.randn(lengths[0]) * 0.1, torch.randn(lengths[1]) * 0.01, tone]


def in_a_batch(ours, spec):
    """Each clip's hidden states and logits, from one batch padded by NaN."""
    frames = [audio_frontend(spec)(clip) for clip in clips(spec)]
    lengths = torch.tensor([len(each) for each in frames])
    with torch.no_grad():
        output = ours(pad_sequence(frames, batch_first=True, padding_value=float("nan")), lengths)
        alone = [ours(each[None]) for each in frames]
    rows = [
        (output.hidden[row, :count], output.logits[row, :count]) for row, count in enumerate(output.lengths.tolist())
    ]
    for (hidden, logits), one in zip(rows, alone, strict=True):
        assert (hidden - one.hidden[0]).abs().max() < 1e-5
        assert hidden.shape[0] == one.hidden.shape[1]
        assert logits.numel() == 0 or (logits - one.logits[0]).abs().max() < 1e-5
    return rows


@pytest.mark.parametrize("name", [name for name in AUDIOS if not name.startswith("whisper")])
def test_a_waveform_encoder_computes_what_transformers_does(tmp_path, name):
    from transformers import Wav2Vec2FeatureExtractor

    theirs, ours, facts = imported(tmp_path, name)
    spec = MelSpec(**facts["mel"])
    extract = Wav2Vec2FeatureExtractor(**AUDIOS[name][2])
    base = getattr(theirs, theirs.base_model_prefix, theirs)
    for clip, (hidden, logits) in zip(clips(spec), in_a_batch(ours, spec), strict=True):
        values = extract(clip.numpy(), sampling_rate=16000, return_tensors="pt").input_values
        with torch.no_grad():
            expected = base(values).last_hidden_state[0]
        assert expected.shape == hidden.shape
        assert (hidden - expected).abs().max() < TOLERANCE
        if name.endswith("letters"):
            assert ours.characters == " ab'" and ours.num_symbols == 6
            with torch.no_grad():
                own = theirs(values).logits[0][:, [0, 4, 5, 6, 7]]  # <pad> | A B '
            assert (logits[:, :5] - own).abs().max() < TOLERANCE
            assert bool((logits.argmax(-1) < 5).all())
    assert flops.audio(ours, 2, 50).forward > 0


@pytest.mark.parametrize("name", ["whisper", "whisper_128"])
def test_whispers_encoder_computes_what_transformers_does(tmp_path, name):
    from transformers import WhisperFeatureExtractor

    theirs, ours, facts = imported(tmp_path, name)
    spec = MelSpec(**facts["mel"])
    extract = WhisperFeatureExtractor(**AUDIOS[name][2])
    encoder = getattr(theirs, "model", theirs).encoder
    for clip, (hidden, _) in zip(clips(spec), in_a_batch(ours, spec), strict=True):
        windows = []
        for window in clip.split(16000):
            features = extract(window.numpy(), sampling_rate=16000, return_tensors="pt").input_features
            with torch.no_grad():
                windows.append(encoder(features).last_hidden_state[0])
        assert (hidden - torch.cat(windows)[: len(hidden)]).abs().max() < TOLERANCE
        assert len(hidden) == -(-spec.num_frames(len(clip)) // 2)
    assert flops.audio(ours, 2, 150).forward == 2 * flops.audio(ours, 2, 90).forward  # two windows


@pytest.mark.parametrize("name", ["siglip", "whisper", "hubert"])
def test_an_export_of_an_export_is_the_same_to_the_bit(tmp_path, name):
    _, ours, facts = imported(tmp_path, name)
    module = next(iter(load_export(tmp_path / "export").modules))
    again, direct = load_export(tmp_path / "export").modules[module], load_encoder(tmp_path / "hf").modules[module]
    for other in (again, direct):
        assert other.options == ours.options
        assert ours.state_dict().keys() == other.state_dict().keys()
        assert all(torch.equal(value, other.state_dict()[key]) for key, value in ours.state_dict().items())
    assert describe_path(tmp_path / "hf") == describe_path(tmp_path / "export")
    assert facts["imported"]["from"] == "hf"


def test_a_recognizer_of_letters_writes_at_once(tmp_path):
    imported(tmp_path, "hubert_letters")
    engine = load_model(tmp_path / "export")
    assert set(engine.transcribe(torch.randn(16000) * 0.1)) <= set(" ab'")


def test_an_encoder_without_a_head_says_that_it_writes_nothing(tmp_path):
    imported(tmp_path, "whisper")
    with pytest.raises(ValueError, match="no CTC head, it transcribes nothing"):
        load_model(tmp_path / "export").transcribe(torch.randn(16000) * 0.1)


def test_half_precision_and_shards_are_read(tmp_path):
    theirs = make(tmp_path / "whole", "vit").half()
    theirs.save_pretrained(tmp_path / "shards", max_shard_size="30KB")
    (tmp_path / "shards" / "preprocessor_config.json").write_text('{"size": 32}')
    ours = load_encoder(tmp_path / "shards").modules["vision"]
    assert len(list((tmp_path / "shards").glob("*.safetensors"))) > 1
    images = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        assert torch.allclose(ours(images).grid, theirs.float()(images).last_hidden_state[:, 1:], atol=1e-4)


def damaged(tmp_path, name, damage):
    """The error of a folder with some damage, in one line, before anything is written."""
    make(tmp_path / "hf", name)
    damage(tmp_path / "hf")
    with pytest.raises((ValueError, FileNotFoundError)) as error:
        import_encoder(read_folder(tmp_path / "hf"), tmp_path / "export")
    assert not (tmp_path / "export").exists() and "\n" not in str(error.value)
    return str(error.value)


def tensors(change):
    """Damage to the tensors of a folder."""

    def damage(folder):
        weights = load_file(folder / "model.safetensors")
        change(weights)
        save_file(weights, folder / "model.safetensors")

    return damage


def config(**values):
    """Damage to config.json."""
    return lambda folder: edit_json(folder / "config.json", **values)


def preprocessor(**values):
    """Damage to preprocessor_config.json."""
    return lambda folder: edit_json(folder / "preprocessor_config.json", **values)


WRONG = [
    ("vit", config(auto_map={"AutoModel": "evil.Model"}), "config.json: auto_map asks for code of the folder"),
    ("vit", config(hidden_size=64), "has shape .*config.json asks for"),
    ("vit", config(hidden_size=10**9), "config.hidden_size=1000000000: .*numbers from 0 to 65536"),
    ("vit", config(num_hidden_layers=10**5), "num_hidden_layers=100000"),
    ("vit", config(hidden_act="eval"), "config of vit: .eval. is no activation"),
    ("vit", tensors(lambda w: w.pop("layernorm.weight")), "the tensor layernorm.weight is missing, which config.json asks"),
    ("vit", tensors(lambda w: w.update(more=torch.ones(2))), "unexpected tensor more"),
    ("vit", tensors(lambda w: w.update({"layernorm.bias": torch.ones(32).long()})), "layernorm.bias is of I64"),
    ("vit", tensors(lambda w: w["layernorm.bias"].fill_(float("nan"))), "layernorm.bias holds NaN=32"),
    ("vit", tensors(lambda w: w.clear()), "embeddings.cls_token is missing: no encoder of model_type=vit"),
    ("vit", lambda folder: (folder / "preprocessor_config.json").unlink(), "no preprocessor_config.json"),
    ("vit", preprocessor(size=30), "images of 30 pixels are no multiple of patch_size=8"),
    ("vit", preprocessor(size={"height": 32, "width": 40}), "preprocessor_config.json: size=.*a square is needed"),
    ("vit", preprocessor(resample=9), "resample=9: Pillow's filters are"),
    ("vit", preprocessor(rescale_factor=1.0), "rescale_factor=1.0: only 1/255 is known"),
    ("vit", preprocessor(do_resize=False), "do_resize=False: an image is always resized"),
    ("vit", preprocessor(image_std=[0.5, 0.5]), "three means and positive deviations"),
    ("clip", preprocessor(crop_size=64), "crop_size=64: it is larger than size"),
    ("siglip", config(model_type="siglip2"), "model_type=siglip2 is SigLIP 2 .*NaFlex.*whose model_type is siglip"),
    ("whisper", preprocessor(chunk_length=30), "chunk_length=30: config.json's max_source_positions are 1 s"),
    ("whisper", preprocessor(feature_size=128), "feature_size=128: config.json asks for num_mel_bins 80"),
    ("whisper", preprocessor(dither=0.1), "dither=0.1: no noise is added"),
    ("wav2vec2", config(add_adapter=True), "add_adapter=True: an encoder with adapter layers is not read"),
    ("wav2vec2", config(conv_stride=[5]), "config.json: "),
    ("hubert_letters", lambda folder: (folder / "vocab.json").unlink(), "no vocab.json here, the letters"),
    ("hubert_letters", lambda folder: edit_json(folder / "vocab.json", Z=99), "vocab.json: 'Z' is output 99, of 8"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "damage", "message"), WRONG)
def test_what_is_wrong_with_a_folder_is_said_in_one_line(tmp_path, name, damage, message):
    said = damaged(tmp_path, name, damage)
    assert re.search(message, said), said


def test_a_description_builds_nothing_but_encoders(tmp_path):
    """An export may come from anyone: no class, kernel or size of its choice."""
    imported(tmp_path, "vit")
    path = tmp_path / "export" / "model.yaml"
    plain = path.read_text()
    for old, new, message in (
        ("model_type: vit\n", "model_type: os.system\n", "model_type='os.system'; available: clip_vision_model"),
        ("hidden_act: gelu\n", "_attn_implementation: evil/kernel\n", "no value of vit"),
        ("num_hidden_layers: 2\n", "num_hidden_layers: 100000\n", "num_hidden_layers=100000"),
        ("patch: 8\n", "patch: 4\n", "patch 4 and dim 32 are the config's 8 and 32"),
    ):
        assert old in plain
        path.write_text(plain.replace(old, new))
        with pytest.raises(ValueError, match=message):
            load_export(tmp_path / "export")


def test_without_transformers_a_line_says_what_to_install(tmp_path, monkeypatch):
    imported(tmp_path, "vit")
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ValueError, match="pip install 'muomni.hf.'"):
        load_export(tmp_path / "export")


def test_only_encoders_are_taken_for_encoders(tmp_path):
    make(tmp_path / "hf", "clip")
    assert is_encoder(read_config(tmp_path / "hf"))
    assert is_encoder({"model_type": "siglip2_vision_model"}) and not is_encoder({"model_type": "llama"})
    facts = describe_path(tmp_path / "hf").facts
    assert facts["image"]["resize"] == 36 and facts["image"]["fit"] == "crop" and "kind" not in json.dumps(facts)
    import_encoder(read_folder(tmp_path / "hf"), tmp_path / "export")
    assert read_description(tmp_path / "export")["facts"]["imported"]["model_type"] == "clip"


def test_the_command_tells_an_encoder_from_a_language_model(tmp_path, capsys):
    make(tmp_path / "hf", "whisper")
    assert main(["import", str(tmp_path / "hf"), f"out={tmp_path / 'export'}"]) == 0
    assert "whisper: the audio encoder without a CTC head, 0.0 M parameters" in capsys.readouterr().err
    assert list(load_export(tmp_path / "export").modules) == ["audio"]
    with pytest.raises(ValueError, match="max_length=9: .* holds no language model; leave it out"):
        main(["import", str(tmp_path / "hf"), f"out={tmp_path / 'export'}", "max_length=9"])
