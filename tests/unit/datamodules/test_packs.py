"""Packs: what is read from one is what was packed, however often the packing was killed; foreign pieces are refused."""

import json
import os
import pickle
import shutil
import tarfile

import numpy as np
import pytest
import soundfile
from PIL import Image

from datamodules import large_manifests
from datamodules.fingerprint import digest
from datamodules.formats import Reading
from datamodules.manifests import read_manifest
from datamodules.media import StoredMedia
from datamodules.pack import main
from datamodules.packs import writer
from datamodules.packs.index import INDEX
from datamodules.packs.reader import Pack
from datamodules.packs.samples import read_samples


@pytest.fixture
def data(tmp_path):
    """Manifests of every shape, with media."""
    rng = np.random.default_rng(0)
    rows = {shape: [] for shape in ("text", "speech", "image_text", "ocr", "sft")}
    for index in range(12):
        soundfile.write(tmp_path / f"a{index}.flac", rng.normal(0, 0.1, 800 + 160 * index), 16000)
        Image.fromarray(rng.integers(0, 255, (8, 9, 3), dtype=np.uint8)).save(tmp_path / f"i{index}.png")
        audio, image = f"a{index}.flac", f"i{index}.png"
        row = {"id": f"r{index}", "split": "val" if index % 4 == 3 else "train"}
        rows["text"].append(row | {"text": f"text {index} é"})
        rows["speech"].append(row | {"audio": audio, "text": "hello", "speaker": index % 2})
        rows["image_text"].append(row | {"image": image, "captions": ["a", "b"]})
        rows["ocr"].append(row | {"image": image, "text": "STOP"})
        content = [{"type": "image", "image": image}, {"type": "audio", "audio": audio}, {"type": "text", "text": "?"}]
        turns = [{"role": "user", "content": content}, {"role": "assistant", "content": "yes"}]
        rows["sft"].append(row | {"messages": turns})
    for shape, each in rows.items():
        (tmp_path / f"{shape}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in each))
    return tmp_path


def pack(data, shape, name="pack", *options):
    main([str(data / f"{shape}.jsonl"), f"out={data / name}", "shard_mb=0.005", *options])
    return data / name


def with_bytes(value):
    """Media as their bytes."""
    if isinstance(value, dict):
        return {key: with_bytes(each) for key, each in value.items()}
    if isinstance(value, list):
        return [with_bytes(each) for each in value]
    if isinstance(value, StoredMedia):
        return value.read()
    if isinstance(value, str) and os.path.isfile(value):
        with open(value, "rb") as file:
            return file.read()
    return value


@pytest.mark.parametrize("shape", ["text", "speech", "image_text", "ocr", "sft"])
@pytest.mark.parametrize("large", [False, True])
def test_a_pack_has_the_rows_of_its_manifest(data, shape, large, monkeypatch):
    folder = pack(data, shape)
    assert json.loads((folder / INDEX).read_text())["shape"] == shape, "the first row tells the shape"
    if large:
        monkeypatch.setattr(large_manifests, "LARGE_PACK", 1)
    for split in (None, "train", "val"):
        rows = read_manifest(folder, shape=shape, split=split)
        assert isinstance(rows, list) != large
        assert with_bytes(list(rows)) == with_bytes(read_manifest(data / f"{shape}.jsonl", shape=shape, split=split))
    with pytest.raises(ValueError, match="no rows with split 'tset'"):
        read_manifest(folder, shape=shape, split="tset")


def test_shards_are_plain_tar_files_of_samples(data):
    folder = pack(data, "sft")
    shards = sorted(folder.glob("*.tar"))
    assert len(shards) > 2
    names = []
    for shard in shards:
        with tarfile.open(shard) as file:
            names += [member.name for member in file]
            row = json.load(file.extractfile(file.getmembers()[0]))
            assert row["messages"][0]["content"][0]["image"] in file.getnames()
    assert names[:3] == ["000000000.json", "000000000.0.png", "000000000.1.flac"]
    assert len(names) == 36 and names == sorted(names, key=lambda name: (name[:9], "json" not in name, name))


def test_webdataset_reads_a_pack(data):
    webdataset = pytest.importorskip("webdataset")
    folder = pack(data, "speech")
    shards = [str(path) for path in sorted(folder.glob("*.tar"))]
    samples = list(webdataset.WebDataset(shards, shardshuffle=False, empty_check=False))
    assert len(samples) == 12
    assert json.loads(samples[3]["json"])["id"] == "r3" and samples[3]["flac"] == (data / "a3.flac").read_bytes()


def test_seconds_come_from_the_index(data):
    assert Pack(pack(data, "speech")).columns["seconds"] == pytest.approx([(800 + 160 * i) / 16000 for i in range(12)])


def content(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_a_packing_killed_at_any_point_goes_on(data, monkeypatch):
    """A child process dies at the n-th file that it would put in its place or begin: for every n."""
    whole = content(pack(data, "speech", "pack", "shard_mb=0.015"))
    assert sum(name.endswith(".tar") for name in whole) == 3
    real = {"replace": os.replace, "rmtree": shutil.rmtree, "padding": writer.padding}
    calls = [0]

    def deadly(name, last):
        def call(*arguments, **options):
            calls[0] += 1 if name != "padding" else 0.2  # one of some members, and each file that is put in its place
            if calls[0] >= last:
                os._exit(9)
            return real[name](*arguments, **options)

        return call

    for last in range(1, 200):
        target = data / "killed"
        child = os.fork()
        if not child:
            os.replace, writer.shutil.rmtree, writer.padding = (deadly(name, last) for name in real)
            try:
                pack(data, "speech", target.name, "shard_mb=0.015")
            finally:
                os._exit(0)
        ended = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        assert content(pack(data, "speech", target.name, "shard_mb=0.015")) == whole
        real["rmtree"](target)
        if not ended:
            break
    assert last > 12


def test_finished_shards_are_kept(data, monkeypatch):
    folder = pack(data, "speech")
    before = content(folder)
    shutil.rmtree(folder)
    count = len([name for name in before if name.endswith(".tar")])
    shards = []
    real = writer._write_shard

    def stop(*arguments, **options):
        if len(shards) == count - 1:
            raise KeyboardInterrupt
        shards.append(1)
        real(*arguments, **options)

    monkeypatch.setattr(writer, "_write_shard", stop)
    with pytest.raises(KeyboardInterrupt):
        pack(data, "speech")
    with pytest.raises(ValueError, match="not finished: the same python -m datamodules.pack command continues it"):
        read_manifest(folder, shape="speech")
    times = {path: path.stat().st_mtime_ns for path in folder.glob("*.tar")}
    assert len(times) == count - 1
    monkeypatch.setattr(writer, "_write_shard", real)
    with pytest.raises(ValueError, match="begun pack of other data or other options"):
        main([str(data / "text.jsonl"), f"out={folder}"])
    pack(data, "speech")
    assert {path: path.stat().st_mtime_ns for path in times} == times and content(folder) == before
    pack(data, "speech")  # nothing to do
    with pytest.raises(ValueError, match="holds a pack of other data or other options"):
        main([str(data / "text.jsonl"), f"out={folder}"])


def test_media_that_cannot_be_read_are_left_out_and_counted(data, caplog):
    rows = [json.loads(line) for line in (data / "speech.jsonl").read_text().splitlines()] * 9
    (data / "bad.flac").write_bytes(b"fLaC nothing")
    lines = [json.dumps(row | {"id": index}) for index, row in enumerate(rows)]
    lines[5] = json.dumps({"audio": "bad.flac", "text": "x", "id": "broken"})
    (data / "speech.jsonl").write_text("\n".join(lines))
    folder = pack(data, "speech")
    assert "skipped 1 of 108 samples; the first: broken: cannot read" in caplog.text
    assert [row["id"] for row in read_manifest(folder, shape="speech")] == [i for i in range(108) if i != 5]
    (data / "a3.flac").write_bytes(b"")
    with pytest.raises(ValueError, match=r"10 of 108 samples cannot be used \(over 1 %\); the first: 3: "):
        pack(data, "speech", "other")


def test_what_does_not_belong_together_is_refused(data):
    folder = pack(data, "speech")
    shard = folder / "00001.tar"
    original, index = shard.read_bytes(), (folder / INDEX).read_text()

    def refused(message, error=ValueError):
        with pytest.raises(error, match=message):
            list(read_manifest(folder, shape="speech"))

    refused_shape = pytest.raises(ValueError, match="a pack of shape speech, and text is needed here")
    with refused_shape:
        read_manifest(folder, shape="text")
    shard.write_bytes(original[:-700])
    refused(r"00001\.tar: cut off: \d+ bytes, \d+ by the index; copy it again")
    shard.write_bytes(original[:600] + b"\1" + original[601:])
    refused(r"00001\.tar: the index .*index\.json belongs to another pack")
    shard.unlink()
    refused(r"00001\.tar: this shard of the pack is missing", FileNotFoundError)
    shard.write_bytes(original)
    for name in ("../00001.tar", "/etc/passwd", ".."):
        (folder / INDEX).write_text(index.replace('"00001.tar"', json.dumps(name)))
        refused("is not a file of this folder")
    (folder / INDEX).write_text(index.replace('"version": 1', '"version": 9'))
    refused("of version 9; this program reads version 1")
    (folder / INDEX).write_text(index[:400])
    refused(r"index\.json: damaged")
    (folder / INDEX).write_text(index)
    offsets = np.load(folder / "offsets.npy")
    np.save(folder / "offsets.npy", offsets[:-1])
    refused(r"offsets\.npy belongs to another pack: 11 samples, 12 in")
    np.save(folder / "offsets.npy", offsets[::-1].copy())
    refused(r"at \d+ is .*(no member of a tar file|instead of sample|no sample).*belongs to another pack")


def test_media_are_members_of_their_sample_alone(data):
    """A pack that someone else made may say anything: no file outside of it is opened."""
    folder = pack(data, "ocr")
    pack_ = Pack(folder)
    start = int(pack_.offsets[0])
    shard = folder / "00000.tar"
    content = bytearray(shard.read_bytes())
    at = content.index(b'"000000000.png"', start)
    content[at : at + 15] = b'"../secret.png"'
    shard.write_bytes(content)
    index = json.loads((folder / INDEX).read_text())
    index["shards"][0]["ends"] = large_digest(shard)
    (folder / INDEX).write_text(json.dumps(index))
    with pytest.raises(ValueError, match=r"sample 000000000 is damaged \(KeyError: '../secret.png'\)"):
        Pack(folder).read(0)


def large_digest(path):
    from datamodules.packs.index import digest_of_ends

    return digest_of_ends(path)


def test_the_fingerprint_is_that_of_the_index(data):
    one, two = pack(data, "speech", "one"), pack(data, "speech", "two")
    assert digest(one) == digest(two) != digest(pack(data, "ocr", "three"))


def test_a_pack_is_sent_to_another_process_without_its_arrays(data):
    source = Pack(pack(data, "speech"))
    sent = pickle.dumps(source)
    assert len(sent) < 2000 + 300 * len(source.shards)
    assert with_bytes(pickle.loads(sent).read(7)) == with_bytes(source.read(7))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["text.jsonl"], "one manifest and out=FOLDER are needed"),
        (["nothing.jsonl", "out=x"], "nothing.jsonl: no such manifest"),
        (["text.jsonl", "out=x", "shard_mb=0"], "shard_mb=0: must be above 0"),
        (["text.jsonl", "out=."], "holds files and is no pack"),
        (["none.jsonl", "out=x"], "its first row is of no shape; give shape="),
        (
            ["gone.jsonl", "out=x"],
            "its first row cannot be used as speech: missing file gone.wav.*shape=text leaves media out",
        ),
        (["text.jsonl", "out=x", "columns=text"], "columns=text: OURS:THEIRS,.. is needed"),
        (["text.jsonl", "out=x", "shape=text", "columns=text:words"], "no row has the column 'words'"),
    ],
)
def test_mistakes_of_the_command_line_are_named(data, monkeypatch, words, message):
    monkeypatch.chdir(data)
    (data / "none.jsonl").write_text('{"a": 1}\n')
    (data / "gone.jsonl").write_text('{"audio": "gone.wav", "text": "hello"}\n')
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        main(words)


def test_a_folder_is_packed_as_what_its_rows_are(data, monkeypatch):
    """Media lie in the folder itself, and cuts of a recording are wav files."""
    folder = data / "folder"
    folder.mkdir()
    (data / "a0.flac").rename(folder / "a0.flac")
    for split in ("train", "dev"):
        row = {"audio": "a0.flac", "text": split, "segment": [0.0, 0.04]}
        (folder / f"{split}.jsonl").write_text(json.dumps(row) + "\n")
    main([str(folder), f"out={data / 'p'}"])
    assert Pack(data / "p").shape == "speech"
    with tarfile.open(data / "p" / "00000.tar") as file:
        assert file.getnames()[1] == "000000000.wav"


def test_how_a_manifest_is_read_is_said_when_it_is_packed(data):
    (data / "names.jsonl").write_text('{"id": 1, "sentence": "a", "text": "b", "split": 1}\n')
    main([str(data / "names.jsonl"), f"out={data / 'p'}", "columns=text:sentence"])
    (row,) = read_manifest(data / "p", shape="text", split="1")
    assert row["text"] == "a"
    with pytest.raises(ValueError, match="holds a pack of other data or other options"):
        main([str(data / "names.jsonl"), f"out={data / 'p'}"])
    for reading in (Reading(columns={"text": "sentence"}), Reading(format="csv"), Reading(class_caption="{class}")):
        with pytest.raises(
            ValueError, match=r"data\.\w+=.* changes nothing in a pack: leave it out, or pack the data with"
        ):
            read_manifest(data / "p", shape="text", reading=reading)


def test_the_whole_of_a_recording_is_tried(tmp_path):
    soundfile.write(tmp_path / "nan.wav", np.full(800, np.nan, dtype=np.float32), 16000, subtype="FLOAT")
    (tmp_path / "cut.flac").write_bytes(b"fLaC nothing")
    rows = [{"id": name, "audio": str(tmp_path / name), "text": "x"} for name in ("nan.wav", "cut.flac")]
    errors = [sample.error for sample in read_samples(rows, 0, shape="speech")]
    assert errors[0].startswith("nan.wav: ") and "NaN" in errors[0]
    assert f"Error opening '{tmp_path / 'cut.flac'}'" in errors[1]
