"""experiment=from_pretrained on small random weights of Llama, SigLIP and Whisper: the projectors learn first, then LoRA, and the
model that is handed over answers."""

import json

import pytest
import torch
from PIL import Image

import train
from muomni.checkpoints.export import load_export
from muomni.cli import ablations
from muomni.frontends.audio_io import write_audio
from muomni.inference.load import load_model
from tests.integration.test_recipes import compose_words
from tests.unit.frontends.pretrained import byte_level, write
from tests.unit.interop.hf.encoder_folders import make

END = "<|endoftext|>"
TINY = (
    "budget=ci", "thinker.max_length=null", "trainer.accelerator=cpu", "trainer.precision=32-true", "resume=never",
    "prerequisites=error", "callbacks.progress=null", "schedule.warmup_steps=1", "trainer.max_steps=4",
    "trainer.val_check_interval=4", "trainer.limit_val_batches=1", "adapter.start_step=2", "adapter.rank=2",
    "datamodule.batch_size=4", "datamodule.pack=192", "datamodule.num_workers=0", "datamodule.eval_batch_size=2",
    "module.evaluator.max_new_tokens=3", "data.split_shares={val: 0.2, test: 0.2}",
)  # fmt: skip


def sources(folder):
    """Conversations, and the folders of a language model and two encoders."""
    write_audio(folder / "a.wav", 0.3 * torch.sin(torch.arange(12000) * 0.05), 16000)
    rows = []
    for index in range(30):
        Image.new("RGB", (40, 30), (8 * index, 10, 20)).save(folder / f"{index}.png")
        content = [{"type": "text", "text": f"what is number {index}?"}]
        content[:0] = (
            [{"type": "image", "image": f"{index}.png"}] if index % 3 else [{"type": "audio", "audio": "a.wav"}]
        )
        turns = [{"role": "user", "content": content}, {"role": "assistant", "content": "a red dot"}]
        rows.append({"id": index, "messages": turns})
    (folder / "train.jsonl").write_text("\n".join(map(json.dumps, rows)))
    transformers = pytest.importorskip("transformers")
    tokenizer = byte_level([END])
    (folder / "llama").mkdir()
    write(folder / "llama", tokenizer, {"bos_token": END, "eos_token": END})
    torch.manual_seed(0)
    shape = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
    shape |= {"vocab_size": tokenizer.get_vocab_size(), "max_position_embeddings": 256, "tie_word_embeddings": True}
    config = transformers.LlamaConfig(**shape)
    transformers.LlamaForCausalLM(config).save_pretrained(folder / "llama")
    make(folder / "siglip", "siglip")
    make(folder / "whisper", "whisper")


def test_projectors_then_adapters_then_answers(tmp_path, monkeypatch):
    sources(tmp_path)
    for name, folder in (("THINKER", "llama"), ("IMAGE_ENCODER", "siglip"), ("AUDIO_ENCODER", "whisper")):
        monkeypatch.setenv(f"MUOMNI_{name}", str(tmp_path / folder))
    words = ["experiment=from_pretrained", f"data.train={tmp_path}/train.jsonl", f"paths.root={tmp_path}", *TINY]
    ablations.register()
    metrics = train.run(compose_words(words), output=tmp_path / "run", overrides=words)
    assert "omni_sft/test/chat" in metrics
    export = tmp_path / "checkpoints" / "from_pretrained" / "omni_sft"
    modules = load_export(export).modules
    assert set(modules) == {"thinker", "vision", "image_projector", "audio", "audio_projector"}
    base = next((tmp_path / "data" / "pretrained").iterdir())
    before, after = load_export(base).modules["thinker"].state_dict(), modules["thinker"].state_dict()
    changed = {key for key in before if not torch.allclose(before[key].float(), after[key], atol=1e-7)}
    assert changed and all(".attention." in key or ".mlp." in key for key in changed)
    answer = load_model(export).answer("what?", image=tmp_path / "1.png", audio=tmp_path / "a.wav", max_new_tokens=3)
    assert answer.completion_tokens > 0
