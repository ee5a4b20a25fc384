"""The same few samples in every format, as those who invented it lay it out."""

import csv
import gzip
import json
import pickle

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image

from muomni.frontends.audio_io import write_audio

N = 4
CLASSES = ["cat", "polar bear"]
SENTENCES = [f"Sentence {n} says \u201c{n}\u201d" for n in range(N)]
CAPTIONS = [[f"a red dot {n}", f"a dot, number {n}"] for n in range(N)]


def waveform(n):
    """Of 16 bits, so that every format keeps it."""
    return (0.3 * torch.sin(torch.arange(4000 + 800 * n) * 0.05 * (n + 1)) * 2**15).round() / 2**15


def image(n):
    pixels = np.random.default_rng(n).integers(0, 255, (32, 32, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def jsonl(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def lines(path, *texts):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{text}\n" for text in texts), encoding="utf-8")
    return path


def table(path, rows, *, delimiter=","):
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0], delimiter=delimiter, quoting=csv.QUOTE_NONE if delimiter == "\t" else 0)
        writer.writeheader()
        writer.writerows(rows)
    return path


def audio(folder, n, name=None, suffix="wav"):
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name or n}.{suffix}"
    write_audio(path, waveform(n), 16000)
    return path


def picture(folder, n, name=None):
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name or n}.png"
    image(n).save(path)
    return path


def cell(path):
    return {"bytes": path.read_bytes(), "path": path.name}


def speaker(n):
    return f"p{n % 2}"


# speech: (folder) -> what data.train= names; each row has the text SENTENCES[n], and where the format can say it the speaker
def speech_jsonl(folder):
    audios = [audio(folder, n) for n in range(N)]
    rows = [{"audio": path.name, "text": SENTENCES[n], "speaker": speaker(n)} for n, path in enumerate(audios)]
    return jsonl(folder / "s.jsonl", rows)


def speech_gz(folder):
    path = speech_jsonl(folder)
    packed = folder / "s.jsonl.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    return packed


def speech_tsv(folder):
    audios = [audio(folder, n) for n in range(N)]
    rows = [{"audio": path.name, "text": SENTENCES[n], "speaker": speaker(n)} for n, path in enumerate(audios)]
    return table(folder / "s.tsv", rows, delimiter="\t")


def speech_csv_zst(folder):
    audios = [audio(folder, n) for n in range(N)]
    rows = [{"audio": path.name, "text": SENTENCES[n], "speaker": speaker(n)} for n, path in enumerate(audios)]
    path = folder / "s.csv.zst"
    path.write_bytes(pa.compress(table(folder / "s.csv", rows).read_bytes(), codec="zstd", asbytes=True))
    return path


def speech_table(folder, **more):
    audios = [audio(folder / "made", n) for n in range(N)]
    cells = pa.array([cell(path) for path in audios])
    return pa.table({"audio": cells, "text": SENTENCES, "speaker": [speaker(n) for n in range(N)], **more})


def speech_parquet(folder):
    path = folder / "s.parquet"
    pq.write_table(speech_table(folder), path, row_group_size=3)
    return path


def speech_arrow(folder):
    made = speech_table(folder)
    with pa.OSFile(str(folder / "s.arrow"), "wb") as file, pa.ipc.new_file(file, made.schema) as writer:
        writer.write_table(made, max_chunksize=3)
    return folder / "s.arrow"


def speech_datasets(folder):
    features = {"audio": {"sampling_rate": 16000, "_type": "Audio"}}
    features |= {name: {"dtype": "string", "_type": "Value"} for name in ("text", "speaker")}
    made = speech_table(folder).replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    datasets.Dataset(made).save_to_disk(folder / "saved")
    return folder / "saved"


def speech_metadata(folder):
    rows = [{"file_name": f"data/{n}.wav", "transcription": SENTENCES[n], "speaker": speaker(n)} for n in range(N)]
    for n in range(N):
        audio(folder / "data", n)
    return table(folder / "metadata.csv", rows).parent


def speech_kaldi(folder):
    for n in range(N):
        audio(folder / "wav", n)
    lines(folder / "wav.scp", *(f"utt{n} {folder}/wav/{n}.wav" for n in range(N)))
    lines(folder / "text", *(f"utt{n} {SENTENCES[n]}" for n in range(N)))
    lines(folder / "utt2spk", *(f"utt{n} {speaker(n)}" for n in range(N)))
    return folder


def speech_kaldi_segments(folder):
    """All clips in one recording, half a second of silence between them."""
    pieces, spans, total = [], [], 0
    for n in range(N):
        pieces += [waveform(n), torch.zeros(8000)]
        spans.append((total / 16000, (total + len(waveform(n))) / 16000))
        total += len(waveform(n)) + 8000
    write_audio(folder / "all.wav", torch.cat(pieces), 16000)
    lines(folder / "wav.scp", f"rec {folder}/all.wav")
    lines(folder / "segments", *(f"utt{n} rec {begin} {end}" for n, (begin, end) in enumerate(spans)))
    lines(folder / "text", *(f"utt{n} {SENTENCES[n]}" for n in range(N)))
    lines(folder / "utt2spk", *(f"utt{n} {speaker(n)}" for n in range(N)))
    return folder


def speech_ljspeech(folder):
    for n in range(N):
        audio(folder / "wavs", n, f"LJ001-{n}")
    lines(folder / "metadata.csv", *(f"LJ001-{n}|raw {n}|{SENTENCES[n]}" for n in range(N)))
    return folder


def speech_librispeech(folder):
    """Two speakers of a split, and another split."""
    for n in (0, 2, 1, 3):
        chapter = folder / f"train-clean-100/{speaker(n)}/7"
        audio(chapter, n, f"{speaker(n)}-7-{n:04}", "flac")
        with (chapter / f"{speaker(n)}-7.trans.txt").open("a", encoding="utf-8") as file:
            file.write(f"{speaker(n)}-7-{n:04} {SENTENCES[n]}\n")
    audio(folder / "dev-clean/9/9", 0, "9-9-0000", "flac")
    lines(folder / "dev-clean/9/9/9-9.trans.txt", "9-9-0000 OTHER")
    return folder


def speech_common_voice(folder):
    rows = [
        {"client_id": speaker(n), "path": f"common_voice_{n}.wav", "sentence": SENTENCES[n], "segment": ""}
        for n in range(N)
    ]
    for n in range(N):
        audio(folder / "clips", n, f"common_voice_{n}")
    table(folder / "train.tsv", rows, delimiter="\t")
    table(folder / "dev.tsv", rows[:1], delimiter="\t")
    table(folder / "validated.tsv", rows, delimiter="\t")
    return folder


def speech_vctk(folder):
    for n in range(N):
        name = f"{speaker(n)}_{n:03}"
        audio(folder / "wav48_silence_trimmed" / speaker(n), n, f"{name}_mic1", "flac")
        audio(folder / "wav48_silence_trimmed" / speaker(n), 0, f"{name}_mic2", "flac")
        lines(folder / "txt" / speaker(n) / f"{name}.txt", SENTENCES[n])
    return folder


SPEECH = {name.removeprefix("speech_"): make for name, make in list(globals().items()) if name.startswith("speech_")}
del SPEECH["table"]


# images with captions
def captions_jsonl(folder):
    rows = [{"image": picture(folder, n).name, "captions": CAPTIONS[n]} for n in range(N)]
    return jsonl(folder / "c.jsonl", rows)


def captions_parquet(folder):
    cells = pa.array([picture(folder / "made", n).read_bytes() for n in range(N)])
    pq.write_table(pa.table({"image": cells, "captions": CAPTIONS}), folder / "c.parquet", row_group_size=2)
    return folder / "c.parquet"


def captions_datasets(folder):
    features = datasets.Features({"image": datasets.Image(), "captions": datasets.List(datasets.Value("string"))})
    rows = {"image": [str(picture(folder / "made", n)) for n in range(N)], "captions": CAPTIONS}
    made = datasets.Dataset.from_dict(rows, features=features)
    datasets.DatasetDict({"train": made, "test": made.select([0])}).save_to_disk(folder / "saved")
    return folder / "saved"


def captions_metadata(folder):
    rows = [{"file_name": picture(folder / "train", n).name, "captions": CAPTIONS[n]} for n in range(N)]
    jsonl(folder / "train/metadata.jsonl", rows)
    picture(folder / "test", 0)
    table(folder / "test/metadata.csv", [{"file_name": "0.png", "text": "other"}])
    return folder


def captions_coco(folder):
    for split, count in (("train2017", N), ("val2017", 1)):
        images = [{"id": 100 + n, "file_name": picture(folder / split, n, f"{n:012}").name} for n in range(count)]
        notes = [
            {"id": 9 * n + k, "image_id": 100 + n, "caption": CAPTIONS[n][k]} for k in (0, 1) for n in range(count)
        ]
        lines(
            folder / f"annotations/captions_{split}.json",
            json.dumps({"info": {}, "images": images, "annotations": notes}),
        )
    return folder


def captions_flickr(folder):
    notes = []
    for n in range(N):
        picture(folder / "Flicker8k_Dataset", n, f"{n}_ab")
        notes += [f"{n}_ab.png#{k}\t{CAPTIONS[n][k]}" for k in (0, 1)]
    lines(folder / "Flickr8k_text/Flickr8k.token.txt", *notes)
    lines(folder / "Flickr8k_text/Flickr_8k.trainImages.txt", *(f"{n}_ab.png" for n in range(N)))
    return folder


def captions_flickr_csv(folder):
    rows = [{"image": f"{n}.png", "caption": CAPTIONS[n][k]} for n in range(N) for k in (0, 1)]
    for n in range(N):
        picture(folder / "Images", n)
    return table(folder / "captions.txt", rows)


CAPTIONED = {
    name.removeprefix("captions_"): make for name, make in list(globals().items()) if name.startswith("captions_")
}


# images of classes: "a photo of a {class}"
def classes_jsonl(folder):
    rows = [{"image": picture(folder, n).name, "caption": f"a photo of a {CLASSES[n % 2]}"} for n in range(N)]
    return jsonl(folder / "c.jsonl", rows)


def classes_csv(folder):
    rows = [{"image": picture(folder, n).name, "class": CLASSES[n % 2]} for n in range(N)]
    return table(folder / "c.csv", rows)


def classes_npz(folder):
    labels = np.array([n % 2 for n in range(N)], dtype=np.uint8)
    np.savez_compressed(folder / "train.npz", images=np.stack([np.array(image(n)) for n in range(N)]), labels=labels)
    lines(folder / "classes.json", json.dumps(CLASSES))
    return folder / "train.npz"


def classes_npz_folder(folder):
    path = classes_npz(folder)
    np.savez(folder / "dev.npz", images=np.zeros((1, 8, 8), dtype=np.uint8), labels=np.zeros(1, dtype=np.int64))
    return path.parent


def classes_image_folder(folder):
    for n in range(N):
        picture(folder / "train" / CLASSES[n % 2].replace(" ", "_"), n)
    picture(folder / "test/cat", 0)
    return folder


def classes_cifar10(folder):
    def batch(numbers):
        data = np.stack([np.array(image(n)).transpose(2, 0, 1).reshape(-1) for n in numbers])
        return pickle.dumps({b"labels": [n % 2 for n in numbers], b"data": data, b"filenames": [b"x"]}, protocol=2)

    (folder / "data_batch_1").write_bytes(batch([0, 1]))
    (folder / "data_batch_2").write_bytes(batch([2, 3]))
    (folder / "test_batch").write_bytes(batch([0]))
    meta = {b"label_names": [name.replace(" ", "_").encode() for name in CLASSES]}
    (folder / "batches.meta").write_bytes(pickle.dumps(meta, protocol=2))
    return folder


def classes_cifar100(folder):
    data = np.stack([np.array(image(n)).transpose(2, 0, 1).reshape(-1) for n in range(N)])
    batch = {b"fine_labels": [n % 2 for n in range(N)], b"coarse_labels": [0] * N, b"data": data}
    meta = {b"fine_label_names": [name.encode() for name in CLASSES], b"coarse_label_names": [b"animals"]}
    for name, content in (("train", batch), ("test", batch), ("meta", meta)):
        (folder / name).write_bytes(pickle.dumps(content, protocol=2))
    return folder


def classes_datasets(folder):
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=CLASSES)})
    rows = {"image": [str(picture(folder / "made", n)) for n in range(N)], "label": [n % 2 for n in range(N)]}
    datasets.Dataset.from_dict(rows, features=features).save_to_disk(folder / "saved")
    return folder / "saved"


def classes_parquet(folder):
    """As the hub has it: shards of a split in data/."""
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=CLASSES)})
    for shard in (0, 1):
        numbers = [2 * shard, 2 * shard + 1]
        cells = pa.array([cell(picture(folder / "made", n)) for n in numbers])
        made = pa.table({"image": cells, "label": [n % 2 for n in numbers]}).cast(features.arrow_schema)
        (folder / "data").mkdir(exist_ok=True)
        pq.write_table(made, folder / f"data/train-{shard:05}-of-00002.parquet")
    return folder


CLASSED = {name.removeprefix("classes_"): make for name, make in list(globals().items()) if name.startswith("classes_")}


# conversations
def turns(n):
    return f"what is in image {n}?", f"a dot {n}"


def talk_jsonl(folder):
    rows = []
    for n in range(N):
        question, answer = turns(n)
        content = [{"type": "image", "image": picture(folder, n).name}, {"type": "text", "text": question}]
        rows.append({"messages": [{"role": "user", "content": content}, {"role": "assistant", "content": answer}]})
    return jsonl(folder / "t.jsonl", rows)


def talk_llava(folder):
    rows = []
    for n in range(N):
        question, answer = turns(n)
        said = [{"from": "human", "value": f"<image>\n{question}"}, {"from": "gpt", "value": answer}]
        rows.append({"id": f"{n:04}", "image": picture(folder / "images", n).name, "conversations": said})
    return lines(folder / "llava.json", json.dumps(rows))


def talk_parquet(folder):
    said = [
        [{"from": "human", "value": f"<image>{turns(n)[0]}"}, {"from": "gpt", "value": turns(n)[1]}] for n in range(N)
    ]
    cells = pa.array([[cell(picture(folder / "made", n))] for n in range(N)])
    pq.write_table(pa.table({"images": cells, "conversations": pa.array(said)}), folder / "t.parquet")
    return folder / "t.parquet"


def talk_parquet_messages(folder):
    """Our own shape, whose items have other keys each."""
    folder.joinpath("made").mkdir()
    path = talk_jsonl(folder / "made")
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    for row in rows:
        row["messages"][1]["content"] = [{"type": "text", "text": row["messages"][1]["content"]}]
        row["messages"][0]["content"][0]["image"] = f"made/{row['messages'][0]['content'][0]['image']}"
    pq.write_table(pa.Table.from_pylist(rows), folder / "t.parquet")
    return folder / "t.parquet"


TALK = {name.removeprefix("talk_"): make for name, make in list(globals().items()) if name.startswith("talk_")}


# text
def text_jsonl(folder):
    return jsonl(folder / "t.jsonl", [{"text": text} for text in SENTENCES])


def text_lines(folder):
    return lines(folder / "t.txt", *SENTENCES)


def text_gz(folder):
    path = folder / "t.txt.gz"
    path.write_bytes(gzip.compress(text_lines(folder).read_bytes()))
    return path


def text_parquet(folder):
    """With blank rows, as WikiText has them."""
    pq.write_table(pa.table({"text": [SENTENCES[0], "", " \n", *SENTENCES[1:]]}), folder / "t.parquet")
    return folder / "t.parquet"


def text_shards(folder):
    for n in range(N):
        pq.write_table(pa.table({"text": [SENTENCES[n]]}), folder / f"{n:03}_00000.parquet")
    return folder


def text_datasets(folder):
    datasets.Dataset.from_dict({"text": SENTENCES}).save_to_disk(folder / "saved")
    return folder / "saved"


TEXT = {name.removeprefix("text_"): make for name, make in list(globals().items()) if name.startswith("text_")}
