"""An export that version 0.1 wrote (tests/fixtures/export_0_1, random weights) answers as it did then, token by token."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import muomni
from muomni.checkpoints.export import load_export, weights_fingerprint
from muomni.inference.decoding.options import preset

FOLDER = Path(__file__).parents[2] / "fixtures" / "export_0_1"
ANSWERS = json.loads((FOLDER / "answers.json").read_text())


@pytest.fixture(scope="module")
def engine():
    return muomni.load_model(FOLDER, device="cpu")


def test_text_image_and_audio_are_answered_as_before(engine):
    greedy, chat = preset("greedy", max_new_tokens=24), preset("chat", max_new_tokens=24, seed=3)
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8))
    audio = torch.from_numpy(rng.normal(0, 0.1, 8000).astype(np.float32))
    assert engine.generate("what colour is the circle", generation=greedy) == ANSWERS["text"]
    assert engine.generate("what is this", image=image, generation=greedy) == ANSWERS["image"]
    assert engine.generate("what is this", audio=audio, generation=greedy) == ANSWERS["audio"]
    assert engine.generate("tell me", generation=chat) == ANSWERS["sampled"]
    assert engine.transcribe(audio) == ANSWERS["transcript"]


def test_it_speaks_the_same_codes(engine):
    assert engine.speak(["a b"], voices=[1])[0].codes.tolist() == ANSWERS["codes"]


def test_its_modules_and_fingerprints_are_those_of_before():
    export = load_export(FOLDER)
    assert {name: weights_fingerprint(module) for name, module in export.modules.items()} == ANSWERS["fingerprints"]
