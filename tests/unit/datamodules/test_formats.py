"""Every format reads the same samples as the JSONL of the same data, from its rows to a batch of the datamodule."""

import pytest
import torch

from datamodules.manifests import read_manifest
from muomni.frontends.audio_io import read_audio
from muomni.frontends.image import read_image
from muomni.frontends.tokenizer import Tokenizer
from tests.unit.datamodules import format_data, test_image_text, test_sft, test_text
from tests.unit.datamodules.test_speech import build


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.model"
    Tokenizer.train(["a photo of a polar bear cat", "Sentence what is in image a red dot, number"] * 20, 300, path)
    return str(path)


def pairs(makers):
    return [pytest.param(make, id=name) for name, make in makers.items()]


@pytest.fixture
def folders(tmp_path):
    """Of the JSONL, and of the other format."""
    for name in ("jsonl", "other"):
        (tmp_path / name).mkdir()
    return tmp_path / "jsonl", tmp_path / "other"


def same(one, other):
    if isinstance(one, torch.Tensor):
        return one.shape == other.shape and torch.allclose(
            *(each.double().nan_to_num() for each in (one, other)), atol=2e-3
        )
    return one == other


def compare(sources, data, *, but):
    """Rows of training and a batch of each source. data: source -> datamodule. but: fields that name files."""
    batches = []
    for source in sources:
        module = data(source)
        samples = module.samples("train")
        assert len(samples) == format_data.N
        rows = getattr(samples, "rows", [{}] * len(samples))
        order = sorted(range(len(samples)), key=lambda n: rows[n].get("text", ""))
        batches.append(module.collate([samples.item(n, -1) for n in order]))
    one, two = batches
    fields = {*one.__slots__} - {"sample_ids", "groups", "mask", *but}
    assert [name for name in sorted(fields) if not same(getattr(one, name), getattr(two, name))] == []
    return batches


def in_order(rows):
    return sorted(rows, key=lambda row: row["text"])


@pytest.mark.parametrize("make", pairs(format_data.SPEECH))
def test_speech(folders, make):
    sources = [each(folder) for each, folder in zip((format_data.speech_jsonl, make), folders, strict=True)]
    ours, theirs = (in_order(read_manifest(source, shape="speech", phase="train")) for source in sources)
    assert [row["text"] for row in theirs] == [row["text"] for row in ours] == format_data.SENTENCES
    if make is not format_data.speech_ljspeech:
        assert [row["speaker"] for row in theirs] == [row["speaker"] for row in ours]
    for one, two in zip(ours, theirs, strict=True):
        torch.testing.assert_close(read_audio(one["audio"], 16000), read_audio(two["audio"], 16000), rtol=0, atol=1e-7)
    compare(sources, build, but={"audio"} if make is not format_data.speech_ljspeech else {"audio", "speakers"})


@pytest.mark.parametrize("make", pairs(format_data.CAPTIONED))
def test_captions(folders, tokenizer, make):
    sources = [each(folder) for each, folder in zip((format_data.captions_jsonl, make), folders, strict=True)]
    compare(sources, lambda source: image_text(source, tokenizer), but={"paths"})


def image_text(source, tokenizer):
    return test_image_text.make(source.parent, train=str(source), test={}, tokenizer=tokenizer)


@pytest.mark.parametrize("make", pairs(format_data.CLASSED))
def test_classes(folders, tokenizer, make):
    sources = [each(folder) for each, folder in zip((format_data.classes_jsonl, make), folders, strict=True)]
    if make is format_data.classes_image_folder:  # by class, not by number
        rows = [read_manifest(source, shape="image_text", phase="train") for source in sources]
        found = [{(tuple(row["captions"]), read_image(row["image"]).sum().item()) for row in each} for each in rows]
        assert found[0] == found[1] and len(rows[1]) == format_data.N
        return
    compare(sources, lambda source: image_text(source, tokenizer), but={"paths"})


@pytest.mark.parametrize("make", pairs(format_data.TALK))
def test_conversations(folders, tokenizer, make):
    sources = [each(folder) for each, folder in zip((format_data.talk_jsonl, make), folders, strict=True)]

    def data(source):
        return test_sft.make(source.parent, train=str(source), test={}, tokenizer=tokenizer)

    compare(sources, data, but={"image_keys"})


@pytest.mark.parametrize("make", pairs(format_data.TEXT))
def test_texts(folders, tokenizer, make):
    sources = [each(folder) for each, folder in zip((format_data.text_jsonl, make), folders, strict=True)]
    compare(sources, lambda source: texts(source, tokenizer), but=())


def texts(source, tokenizer):
    return test_text.make(source.parent, train=str(source), test={}, tokenizer=tokenizer, length=None)


@pytest.mark.parametrize("make", [format_data.captions_parquet, format_data.captions_datasets])
def test_workers_read_cells(tmp_path, tokenizer, make):
    """In processes forked after the parent has read some."""
    source = make(tmp_path)
    batches = []
    for workers in (0, 2):
        module = test_image_text.make(
            tmp_path, train=str(source), test={}, tokenizer=tokenizer, memory_mb=0, num_workers=workers
        )
        batches.append([batch.images for batch in module.train_dataloader()])
    assert all(torch.equal(one, two) for one, two in zip(*batches, strict=True)) and len(batches[0]) == 2
