"""Offline and streamed rows of a recognizer, and its command."""

import json

import pytest
import soundfile
import torch

from benchmarks.quality import asr_stream
from muomni.checkpoints.export import save_export
from muomni.frontends.mel import MelSpec
from muomni.models.audio import Audio

MEL = MelSpec(sample_rate=16000, hop=160, n_fft=512, win=400, bins=16, f_min=0.0, f_max=8000.0, log=True, floor=1e-5)


@pytest.fixture
def root(tmp_path):
    shape = {"n_mels": 16, "channels": 2, "downsample": 4, "dim": 16, "num_layers": 1, "num_heads": 2, "ff_dim": 16}
    rows = []
    for number in range(3):
        waveform = 0.1 * torch.randn(16000, generator=torch.Generator().manual_seed(number))
        soundfile.write(tmp_path / f"{number}.wav", waveform.numpy(), 16000)
        rows.append({"id": str(number), "audio": f"{number}.wav", "text": "One Two", "speaker": number, "split": "dev"})
    (tmp_path / "all.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for name, chunks in (("chunks", {"chunk": 5, "right_context": 2}), ("whole", {})):
        torch.manual_seed(0)
        audio = Audio(**shape, num_symbols=99, conv_kernel=3, **chunks)
        save_export(tmp_path / name, {"audio": audio}, metadata={"stage": "audio", "mel": MEL.metadata()}, files={})
    return tmp_path


def test_rows_of_both_encoders(root, capsys):
    out = root / "out.json"
    asr_stream.main(
        [f"ckpt={root}/chunks", f"offline={root}/whole", f"test={root}/all.jsonl", "test_split=dev", "clips=2",
         f"out={out}"]
    )  # fmt: skip
    result = json.loads(out.read_text())
    names = [row["system"] for row in result["rows"]]
    assert names[0].startswith("offline, ")
    assert names[1:] == [
        "offline", "streamed by chunks, a turn a clip", "streamed by chunks, energy gate"
    ]  # fmt: skip
    assert result["clips"] == 2
    assert result["rows"][2]["latency"] == pytest.approx(7 * 40 + 12.5)
    assert result["rows"][2]["turns"] == 1
    assert all(row["above"] == row["wer"] - result["rows"][0]["wer"] for row in result["rows"])
    assert "2 clips, 2 s, pieces of 20 ms" in capsys.readouterr().out


def test_no_clip_is_one_line(root):
    with pytest.raises(ValueError, match="held_out=eve: no clip is of these speakers"):
        asr_stream.main([f"ckpt={root}/whole", f"test={root}/all.jsonl", "held_out=eve"])
