"""Every form of an export gives the same engine: the same tokens, the same samples."""

import pytest
import torch

from muomni.checkpoints.export import load_export, save_export, weights_fingerprint
from muomni.checkpoints.single_file import describe_for_checkpoint, save_single
from muomni.frontends.text_form import form_metadata
from muomni.frontends.tokenizer import Tokenizer
from muomni.inference.load import find_device, load_model, read_modules
from muomni.models.projector import ImageProjector
from tests.unit.inference.conftest import IMAGE, MEL


@pytest.fixture(scope="module")
def forms(export, tmp_path_factory):
    """The export as a folder, as one file, as one file made of that one, and as a training's checkpoint."""
    folder, loaded = tmp_path_factory.mktemp("forms"), load_export(export)
    single = save_single(folder / "single.safetensors", loaded)
    again = save_single(folder / "again.safetensors", read_modules(single, talker=None))
    training = torch.nn.ModuleDict(loaded.modules)
    carried = describe_for_checkpoint(training, loaded.modules, loaded.metadata, loaded.tokenizer)
    torch.save({"state_dict": training.state_dict(), "export": carried}, folder / "last.ckpt")
    return {"file": export / "model.safetensors", "single": single, "again": again, "ckpt": folder / "last.ckpt"}


@pytest.mark.parametrize("form", ["file", "single", "again", "ckpt"])
def test_the_same_tokens_and_the_same_samples(forms, engine, form, picture):
    other = load_model(forms[form], device="cpu")
    greedy, sampled = {"image": picture, "max_new_tokens": 12}, {"generation": "chat", "max_new_tokens": 12}
    assert other.generate("what colour", **greedy) == engine.generate("what colour", **greedy)
    assert other.generate("tell me", seed=5, **sampled) == engine.generate("tell me", seed=5, **sampled)
    assert other.generate("tell me", seed=6, **sampled) != engine.generate("tell me", seed=5, **sampled)
    assert {n: weights_fingerprint(p) for n, p in other.modules.items()} == {
        n: weights_fingerprint(p) for n, p in engine.modules.items()
    }


def test_a_single_file_takes_the_talker_of_another_export(tmp_path, parts, tokenizer_path, export):
    metadata = {"stage": "omni_sft", "tokenizer": Tokenizer.load(tokenizer_path).fingerprint()}
    mute = save_export(
        tmp_path / "mute", {"thinker": parts["thinker"]}, metadata=metadata, files={"tokenizer.model": tokenizer_path}
    )
    speaking = load_model(
        save_single(tmp_path / "speaking.safetensors", read_modules(mute, talker=export)), device="cpu"
    )
    assert len(speaking.speak(["1"])[0].codes)
    with pytest.raises(ValueError, match="no Talker"):
        read_modules(export, talker=mute)


@pytest.mark.parametrize("name", ["tpu", "cuda:x", "cpu0", ""])
def test_an_unknown_device_lists_the_known(name):
    with pytest.raises(ValueError, match="available are auto, cpu, cuda"):
        find_device(name)


def test_a_gpu_that_is_not_there():
    with pytest.raises(ValueError, match=r"device=cuda:99: this machine has \d+ CUDA GPUs"):
        find_device("cuda:99")
    assert find_device("cpu").type == "cpu"


def test_a_tokenizer_that_is_none_names_the_export(tmp_path, parts):
    (tmp_path / "junk").write_bytes(b"junk")
    folder = save_export(
        tmp_path / "thinker", {"thinker": parts["thinker"]}, metadata={}, files={"tokenizer.model": tmp_path / "junk"}
    )
    with pytest.raises(ValueError, match=r"thinker, tokenizer\.model: not a SentencePiece model"):
        load_model(folder, device="cpu")


def test_prompts_are_written_in_the_form_that_the_model_was_trained_on(tmp_path, parts, tokenizer_path):
    def load(text):
        metadata = {"stage": "thinker", **({} if text is None else {"text": text})}
        files = {"tokenizer.model": tokenizer_path}
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        return load_model(
            save_export(folder, {"thinker": parts["thinker"]}, metadata=metadata, files=files), device="cpu"
        )

    plain, formed = load(None), load(form_metadata("lower"))
    greedy = {"max_new_tokens": 6}
    assert formed.generate("WHAT Colour", **greedy) == plain.generate("what colour", **greedy)
    assert formed.tokenizer.encode("WHAT") == plain.tokenizer.encode("what") != plain.tokenizer.encode("WHAT")
    with pytest.raises(ValueError, match="its texts were written in the form"):
        load({"form": "upper", "fingerprint": "0"})


@pytest.mark.parametrize(
    ("fact", "message"),
    [
        ({"mel": MEL.metadata() | {"bins": 64}}, r"omni: audio\.n_mels is 32, but bins of the fact 'mel' is 64"),
        (
            {"image": IMAGE.metadata() | {"size": 64}},
            r"omni: vision\.image_size is 32, but size of the fact 'image' is 64",
        ),
    ],
)
def test_parts_and_facts_that_do_not_belong_together_name_both(tmp_path, parts, tokenizer_path, fact, message):
    metadata = {"stage": "omni_sft", "mel": MEL.metadata(), "image": IMAGE.metadata()} | fact
    folder = save_export(tmp_path / "omni", parts, metadata=metadata, files={"tokenizer.model": tokenizer_path})
    with pytest.raises(ValueError, match=message):
        load_model(folder, device="cpu")


def test_an_encoder_of_another_model_names_both(tmp_path, parts, tokenizer_path):
    metadata = {"stage": "omni_sft", "mel": MEL.metadata(), "image": IMAGE.metadata()}
    other = parts | {"image_projector": ImageProjector(dim=24, out_dim=48, image_tokens="grid", grid=2, cell=4)}
    folder = save_export(tmp_path / "omni", other, metadata=metadata, files={"tokenizer.model": tokenizer_path})
    with pytest.raises(ValueError, match=r"omni: image_projector\.out_dim is 48, but thinker\.dim is 32"):
        load_model(folder, device="cpu")
