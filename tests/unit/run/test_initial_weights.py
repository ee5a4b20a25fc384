"""A training that starts from an export has its sizes, tokenizer and characters; adapters are for what is trained."""

import pytest
import torch
from hydra import compose, initialize_config_dir

from muomni.checkpoints.export import save_export
from muomni.cli.help import CONF
from muomni.models.audio import Audio
from muomni.models.thinker import Thinker
from muomni.run.initial_weights import begin, follow_export, follow_thinker
from tests.unit.stages.test_adapters import names_that_learn, text_stage

OPTIONS = {
    "vocab_size": 40,
    "dim": 16,
    "num_layers": 2,
    "num_heads": 2,
    "num_kv_heads": 2,
    "ff_dim": 32,
    "max_length": 32,
}


@pytest.fixture
def composed():
    def make(*words):
        with initialize_config_dir(str(CONF), version_base="1.3"):
            return compose("train", overrides=["stage=thinker", *words])

    return make


@pytest.fixture
def export(tmp_path):
    torch.manual_seed(5)
    (tmp_path / "pieces").write_bytes(b"pieces")
    facts = {"stage": "thinker", "tokenizer": "f", "text": {"form": "lower"}}
    return save_export(
        tmp_path / "export",
        {"thinker": Thinker(**OPTIONS)},
        metadata=facts,
        files={"tokenizer.model": tmp_path / "pieces"},
    )


def test_sizes_tokenizer_and_form_are_those_of_the_export(composed, export):
    words = [f"init_from={export}", "backbone.thinker.dropout=0.5"]
    cfg = composed(*words)
    follow_export(cfg, words)
    found = dict(cfg.backbone.thinker)
    assert {key: found[key] for key in OPTIONS} == OPTIONS and found["dropout"] == 0.5
    assert (cfg.tokenizer, cfg.text) == (str(export / "tokenizer.model"), "lower")
    with pytest.raises(ValueError, match="text=as_is: .* was trained with text=lower"):
        follow_export(composed(f"init_from={export}", "text=as_is"), ["text=as_is"])
    with pytest.raises(FileNotFoundError, match=r"init_from=elsewhere: no export folder \(model.yaml"):
        follow_export(composed("init_from=elsewhere"), [])


@pytest.mark.parametrize(
    ("words", "chunk"),
    [([], 0), (["audio_encoder=streaming"], 7), (["audio_encoder=streaming", "backbone.audio.chunk=6"], 6)],
)
def test_an_encoder_of_whole_recordings_learns_to_read_in_chunks(composed, tmp_path, words, chunk):
    shape = {
        "n_mels": 16,
        "num_symbols": 99,
        "channels": 2,
        "downsample": 4,
        "dim": 16,
        "num_layers": 1,
        "num_heads": 2,
    }
    audio = Audio(**shape, ff_dim=16, conv_kernel=3)
    export = save_export(tmp_path / "audio", {"audio": audio}, metadata={"stage": "audio"}, files={})
    words = ["stage=audio", f"init_from={export}", *words]
    cfg = composed(*words)
    follow_export(cfg, words)
    assert (cfg.backbone.audio.dim, cfg.backbone.audio.chunk) == (16, chunk)
    if chunk:
        chunked = Audio(**audio.options | {"chunk": chunk, "right_context": cfg.backbone.audio.right_context})
        chunked.load_state_dict(audio.state_dict())


def test_an_omni_model_reads_texts_as_its_thinker_unless_told_otherwise(composed, export):
    words = ["stage=omni_sft", "data=sft", f"paths.exports.thinker={export}"]
    for word, form in ((None, "lower"), ("text=as_is", "as_is")):
        given = [*words, word] if word else words
        cfg = composed(*given)
        follow_thinker(cfg, given)
        assert cfg.text == form


def test_a_stage_begins_with_its_weights_and_adapters(composed, export):
    """And without a starting point as it was built."""
    stage, cfg = text_stage(), composed("adapter=lora", "adapter.rank=2")
    before = stage.model.head.weight.clone()
    begin(cfg, stage)
    assert torch.equal(stage.model.head.weight, before)
    assert len(names_that_learn(stage)) == 2 * 2 * 4, "A and B of four layers in two blocks"
    stage, cfg = text_stage(), composed("adapter=dora", "adapter.rank=2", f"init_from={export}")
    stage.metadata["text"] = {"form": "lower"}
    begin(cfg, stage)
    torch.manual_seed(5)
    assert torch.equal(stage.model.head.weight, Thinker(**OPTIONS).head.weight)
    assert len(names_that_learn(stage)) == 3 * 2 * 4
