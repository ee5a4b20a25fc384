"""Files that onnxruntime and sherpa-onnx run: the same tokens, texts, embeddings and codes as ours, for any batch and length."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image

from muomni import load_model
from muomni.checkpoints.single_file import read_export
from muomni.inference.asr.recognizer import Recognizer
from muomni.interop.onnx import parts
from muomni.interop.onnx.graph import check_graph, open_session, write_graph
from muomni.interop.onnx.talker import talker_graph, talker_text_graph
from muomni.models.talker import Talker
from muomni.special_tokens import AUDIO, IMAGE
from tests.unit.interop.onnx.test_graphs import recording

ROOT = Path(__file__).parents[4]
pytestmark = pytest.mark.timeout(1800)  # all graphs are traced by torch, which takes seconds each


class Runner:
    """Graphs of a folder by name."""

    def __init__(self, folder):
        self.folder, self.graphs = folder, json.loads((folder / "model.json").read_text())["graphs"]
        self.sessions = {}

    def __call__(self, name, **inputs):
        if name not in self.sessions:
            self.sessions[name] = open_session(self.folder / f"{name}.onnx")
        inputs = {key: np.asarray(value) for key, value in inputs.items()}
        return dict(
            zip(
                (port["name"] for port in self.graphs[name]["outputs"]),
                self.sessions[name].run(None, inputs),
                strict=True,
            )
        )

    def no_past(self, name, batch):
        sizes = {"batch": batch, "past": 0}
        ports = [port for port in self.graphs[name]["inputs"] if port["name"].startswith("past.")]
        return {port["name"]: np.zeros([sizes.get(axis, axis) for axis in port["shape"]], np.float32) for port in ports}


def next_past(out):
    return {name.replace("present", "past"): value for name, value in out.items() if name.startswith("present.")}


def texts(log_probs, symbols):
    for path in log_probs.argmax(-1):
        yield "".join(symbols[i] for n, i in enumerate(path) if i and (n == 0 or i != path[n - 1])).strip()


@pytest.fixture(scope="module")
def write_thinker(write):
    return write("thinker")


def test_greedy_tokens_with_the_cache_are_ours(write_thinker, modules):
    run, thinker = Runner(write_thinker), modules["thinker"]
    for batch, length in ((1, 1), (3, 6)):
        ids = torch.randint(9, 300, (batch, length))
        keep = torch.ones_like(ids)
        if batch > 1:
            keep[0, :3] = keep[1, :1] = 0
        cache, ours = thinker.new_cache(batch), []
        cache.mask_padding(keep > 0)
        none, past, theirs = np.zeros((0, 16), np.float32), run.no_past("thinker", batch), []
        new, mask, step = ids, keep.numpy(), ids.numpy()
        with torch.inference_mode():
            for _ in range(60):
                new = thinker(new, cache=cache, last_only=True).logits.argmax(-1)
                ours.append(new)
                out = run("thinker", ids=step, attention_mask=mask, image_tokens=none, audio_tokens=none, **past)
                step, past = out["logits"][:, -1:].argmax(-1), next_past(out)
                theirs.append(torch.from_numpy(step))
                mask = np.concatenate([mask, np.ones((batch, 1), np.int64)], axis=1)
        assert torch.equal(torch.cat(theirs, 1), torch.cat(ours, 1))
        assert len(torch.cat(ours, 1).unique()) > 10


def test_media_are_where_the_ids_say(write_thinker, modules):
    run, thinker = Runner(write_thinker), modules["thinker"]
    ids = torch.randint(9, 300, (2, 11))
    ids[0, :8], ids[1, :3], ids[:, 9] = IMAGE, IMAGE, AUDIO
    images, audios = torch.randn(11, 16), torch.randn(2, 16)
    x = thinker.embedding(ids).detach()
    x[ids == IMAGE], x[ids == AUDIO] = images, audios
    inputs = {"ids": ids, "attention_mask": torch.ones_like(ids), "image_tokens": images, "audio_tokens": audios}
    out = run("thinker", **inputs, **run.no_past("thinker", 2))
    with torch.inference_mode():
        np.testing.assert_allclose(out["logits"], thinker(ids, embeddings=x).logits, atol=1e-4)


def test_the_text_of_a_waveform_is_ours_also_in_sherpa_onnx(write, lively):
    folder = write("recognizer")
    assert sorted(path.name for path in folder.iterdir()) == [
        "README.md",
        "model.json",
        "recognizer.onnx",
        "tokens.txt",
    ]
    run, recognizer = Runner(folder), Recognizer.from_export(lively, batch_size=2)
    clips = [recording(seconds, seed) for seed, seconds in enumerate((0.5, 1.7, 4.0, 33.0))]
    ours = recognizer(clips)
    assert min(map(len, ours)) > 2
    symbols = run.graphs["recognizer"]["symbols"]
    for clip, text in zip(clips, ours, strict=True):
        pair = torch.stack([clip, clip * 0.1])
        assert list(texts(run("recognizer", waveform=pair)["log_probs"], symbols)) == [text] * 2
    sherpa_onnx = pytest.importorskip("sherpa_onnx")
    theirs = sherpa_onnx.OfflineRecognizer.from_omnilingual_asr_ctc(
        model=str(folder / "recognizer.onnx"), tokens=str(folder / "tokens.txt")
    )
    for clip, text in zip(clips, ours, strict=True):
        stream = theirs.create_stream()
        stream.accept_waveform(16000, clip.numpy())
        theirs.decode_stream(stream)
        assert stream.result.text.strip() == text.replace("\n", " ").replace("\t", " ").strip()


SIZES = (
    {"batch": 1, "past": 0, "tokens": 1, "frames": 1, "samples": 160, "rows": 1, "characters": 1, "images": 0, "audios": 0},
    {"batch": 4, "past": 0, "tokens": 9, "frames": 64, "samples": 16000, "rows": 3, "characters": 12, "images": 1, "audios": 2},
    {"batch": 2, "past": 17, "tokens": 1, "frames": 133, "samples": 70001, "rows": 20, "characters": 2, "images": 1, "audios": 1},
)  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", parts.BUILDERS)
def test_every_graph_computes_what_torch_computes_for_any_batch_and_length(name, everything, lively):
    export = read_export(lively)
    if name not in parts.choose(export, ()):
        pytest.skip("the export has no such module")
    graph = parts.build(export, name)
    for sizes in SIZES:
        codebooks = {"codebooks": 1, "frame": 1, "slots": 1, "pieces": 5}
        object.__setattr__(graph, "checked", {**sizes, **codebooks})
        assert check_graph(graph, everything / f"{name}.onnx", tolerance=1e-4) <= 1e-4


@pytest.mark.slow
def test_the_example_of_the_document_needs_nothing_of_ours(everything, lively, tmp_path):
    code = re.search(r"```python\n(import json.*?)```", (ROOT / "docs" / "pretrained.md").read_text(), flags=re.DOTALL)
    (tmp_path / "onnx").mkdir()
    (tmp_path / "onnx" / "omni").symlink_to(everything)
    clip = recording(2.0, 3)
    soundfile.write(tmp_path / "question.wav", clip.numpy(), 16000, subtype="FLOAT")
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (16, 16, 3), np.uint8)).save(tmp_path / "image.png")
    blocked = "import sys; sys.modules['torch'] = sys.modules['muomni'] = None\n"
    done = subprocess.run(
        [sys.executable, "-c", blocked + code[1]], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    model = load_model(lively, device="cpu")
    heard = Recognizer.from_export(lively, batch_size=1)([clip])[0]
    answer = model.generate("what is this", image=tmp_path / "image.png", max_new_tokens=50)
    assert done.stdout.strip().splitlines() == [*heard.splitlines(), *answer.splitlines()]


@pytest.mark.slow
def test_an_utterance_is_spoken_frame_by_frame(everything, modules):
    run, talker, codec = Runner(everything), modules["talker"], modules["codec"]
    text, lengths, speakers = torch.randint(1, 99, (2, 5)), torch.tensor([5, 3]), torch.tensor([0, 1])
    read = run("talker_text", text=text, lengths=lengths, speakers=speakers)
    cache = talker.new_cache(2, 5 + 12)
    keep, codes, past = np.array([[1] * 6, [1, 1, 1, 0, 0, 1]]), np.zeros((2, 2), np.int64), run.no_past("talker", 2)
    prefix, times, spoken = read["prefix"], read["char_times"], []
    with torch.inference_mode():
        ours = talker.prefill(text, lengths, speakers=speakers, cache=cache)
        for frame in range(12):
            out = run(
                "talker", prefix=prefix, char_times=times, codes=codes, frame=np.full(2, frame), attention_mask=keep,
                text_frame=read["text_frames"][:, frame], **past,
            )  # fmt: skip
            np.testing.assert_allclose(out["logits"], ours.logits[:, 0], atol=1e-4)
            np.testing.assert_allclose(out["stop"], ours.stop[:, 0], atol=1e-4)
            codes, past = out["logits"].argmax(-1), next_past(out)
            prefix, times = prefix[:, :0], times[:, :0]
            keep = np.concatenate([keep, np.ones((2, 1), np.int64)], axis=1)
            spoken.append(codes)
            if frame < 11:
                ours = talker.decode_step(torch.from_numpy(codes)[:, None], frame=frame + 1, cache=cache)
        spoken = np.stack(spoken, axis=1)
        mel = run("codec_decoder", codes=spoken, lengths=np.array([12, 12]))["mel"]
        np.testing.assert_allclose(mel, codec.decode(torch.from_numpy(spoken)), atol=1e-4)


@pytest.mark.slow
def test_codes_of_a_recording_are_ours(everything, modules):
    run, codec = Runner(everything), modules["codec"]
    mel = run("codec_mel", waveform=recording(2.0, 1)[None])["mel"]
    out = run("codec_encoder", mel=mel, lengths=[mel.shape[1]])
    with torch.inference_mode():
        assert torch.equal(torch.from_numpy(out["codes"]), codec.encode(torch.from_numpy(mel)))


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["f16", "int8"])
def test_smaller_weights_are_near(dtype, write, everything, modules):
    folder = write("thinker", "audio", dtype=dtype)
    for name in ("thinker", "audio"):
        assert (folder / f"{name}.onnx").stat().st_size < (everything / f"{name}.onnx").stat().st_size
    mel = torch.randn(2, 40, 16)
    ours = modules["audio"](mel).logits.log_softmax(-1).detach().numpy()
    theirs = Runner(folder)("audio", mel=mel, lengths=[40, 40])["log_probs"]
    assert np.abs(theirs - ours).max() < {"f16": 0.05, "int8": 0.5}[dtype]


@pytest.mark.slow
def test_a_later_opset_has_the_same_numbers(write):
    folder = write("audio", opset=21)
    assert json.loads((folder / "model.json").read_text())["opset"] == 21


@pytest.mark.slow
def test_a_talker_with_durations_runs_for_any_batch(modules, tmp_path):
    """Writing compares a graph with torch, for sizes other than those that it was traced with."""
    options = {**modules["talker"].options, "alignment": "durations"}
    talker = Talker(**options).eval()
    for graph in (talker_text_graph(talker), talker_graph(talker)):
        path = tmp_path / f"{graph.name}.onnx"
        assert write_graph(graph, path, opset=18, dtype="f32") < 1e-4
        session = open_session(path)
        assert [port.name for port in graph.outputs] == [port.name for port in session.get_outputs()]
    read = open_session(tmp_path / "talker_text.onnx")
    text, lengths, speakers = torch.randint(1, 99, (3, 5)), torch.tensor([5, 3, 1]), torch.tensor([0, 1, 0])
    inputs = {"text": text.numpy(), "lengths": lengths.numpy(), "speakers": speakers.numpy()}
    prefix, times, frames = read.run(None, inputs)
    assert prefix.shape[:2] == (3, 0) and times.shape == (3, 0)
    with torch.inference_mode():
        cache = talker.new_cache(3, talker.max_frames)
        talker.prefill(text, lengths, speakers=speakers, cache=cache)
    np.testing.assert_allclose(frames, cache.text, atol=1e-4)
