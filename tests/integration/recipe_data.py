"""Five rows of each public data set, in the layout in which people download it; the files of training alone are five, too."""

import json
import pickle
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import soundfile
from PIL import Image

from datamodules.formats import Reading

ROWS = 5
WORDS = ("a cat", "two dogs", "red car", "the sea", "one bird")
CAPTIONS = [[f"{words} on a photo", f"this is {words}", f"{words} again"] for words in WORDS]
#: A name whose recording datamodules/instruct leaves out of training.
HELD_OUT = 71
#: Shares that five rows can have.
SHARES = {"val": 0.25, "test": 0.25}


def ids_of_all_splits(names, *, suffix=""):
    """Five of the names, of which three are for training, one for validation and one for the test."""
    reading, chosen = Reading(split_shares=SHARES), {"train": [], "val": [], "test": []}
    for name in names:
        chosen[reading.with_split({"audio": f"{name}{suffix}"}, 0)["split"]].append(name)
    return sorted(chosen["train"][:3] + chosen["val"][:1] + chosen["test"][:1])


def recording(path: Path, seed: int, *, rate: int, seconds: float = 0.9) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    time = np.arange(int(rate * seconds)) / rate
    wave = 0.3 * np.sin(2 * np.pi * (150 + 20 * seed) * time) + 0.02 * rng.standard_normal(len(time))
    soundfile.write(path, wave.astype(np.float32), rate)


def photo(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (30, 40, 3), dtype=np.uint8)).save(path)


def written(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def parquet(path: Path, **columns) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path)


def librispeech(folder: Path) -> None:
    for split, speaker, count in (
        ("train-clean-100", 103, ROWS),
        ("dev-clean", 84, 1),
        ("test-clean", 61, 1),
        ("test-other", 367, 1),
    ):
        chapter, lines = folder / split / str(speaker) / "1240", []
        for n in range(count):
            name = f"{speaker}-1240-{n:04}"
            recording(chapter / f"{name}.flac", n, rate=16000)
            lines.append(f"{name} {WORDS[n].upper()}\n")
        written(chapter / f"{speaker}-1240.trans.txt", "".join(lines))


def common_voice(folder: Path) -> None:
    columns = (
        "client_id", "path", "sentence_id", "sentence", "sentence_domain", "up_votes", "down_votes", "age", "gender", "accents",
        "variant", "locale", "segment",
    )  # fmt: skip
    for table, count in (("train", ROWS), ("dev", 1), ("test", 1), ("validated", 2), ("other", 1)):
        lines = ["\t".join(columns)]
        for n in range(count):
            name = f"common_voice_tr_{table}{n}.mp3"
            if table in ("train", "dev", "test"):
                recording(folder / "clips" / name, n, rate=32000)
            cells = [
                f"{n:0128x}",
                name,
                f"{n:064x}",
                f"İyi {WORDS[n]}.",
                "",
                "2",
                "0",
                "twenties",
                "",
                "",
                "",
                "tr",
                "",
            ]
            lines.append("\t".join(cells))
        written(folder / f"{table}.tsv", "\n".join(lines) + "\n")


def vctk(folder: Path) -> None:
    names = [f"p{225 + n % 4}_{n:03}" for n in range(1, 60)]
    for n, name in enumerate(ids_of_all_splits(names, suffix="_mic1.flac")):
        speaker = name.split("_")[0]
        for microphone in (1, 2):
            recording(folder / "wav48_silence_trimmed" / speaker / f"{name}_mic{microphone}.flac", n, rate=48000)
        written(folder / "txt" / speaker / f"{name}.txt", f"{WORDS[n].capitalize()}.\n")
    written(folder / "wav48_silence_trimmed" / "log.txt", "as in the archive\n")
    written(folder / "speaker-info.txt", "ID  AGE  GENDER  ACCENTS  REGION COMMENTS\n")


def ljspeech(folder: Path) -> None:
    lines = []
    for n, name in enumerate(ids_of_all_splits([f"LJ001-{n:04}" for n in range(1, 60)], suffix=".wav")):
        recording(folder / "wavs" / f"{name}.wav", n, rate=22050)
        lines.append(f"{name}|{WORDS[n].capitalize()}, 1|{WORDS[n].capitalize()}, one\n")
    written(folder / "metadata.csv", "".join(lines))


def half_hour(folder: Path) -> None:
    rows = []
    for n in range(2 * ROWS):
        recording(folder / "audio" / f"{n}.flac", n, rate=22050)
        split = "dev" if n >= 2 * ROWS - 2 else "train"
        rows.append(
            {"id": n, "audio": f"audio/{n}.flac", "text": f"{WORDS[n % ROWS].capitalize()}, 1.", "split": split}
        )
    written(folder / "manifest.jsonl", "\n".join(map(json.dumps, rows)))


def coco(folder: Path) -> None:
    for split, count in (("train2017", ROWS), ("val2017", 2)):
        images, notes = [], []
        for n in range(count):
            name = f"{n + 9:012}.jpg"
            photo(folder / split / name, n)
            images.append({"license": 3, "file_name": name, "height": 30, "width": 40, "id": n + 9})
            notes += [{"image_id": n + 9, "id": 10 * n + k, "caption": text} for k, text in enumerate(CAPTIONS[n])]
        whole = {"info": {}, "licenses": [], "images": images, "annotations": notes}
        written(folder / "annotations" / f"captions_{split}.json", json.dumps(whole))


def flickr8k(folder: Path) -> None:
    lines, names = [], [f"{n}_693b08cb0e.jpg" for n in range(ROWS + 2)]
    for n, name in enumerate(names):
        photo(folder / "Flicker8k_Dataset" / name, n)
        lines += [f"{name}#{k}\t{text}\n" for k, text in enumerate(CAPTIONS[n % ROWS])]
    written(folder / "Flickr8k_text" / "Flickr8k.token.txt", "".join(lines))
    for split, chosen in (("train", names[:ROWS]), ("dev", names[ROWS : ROWS + 1]), ("test", names[ROWS + 1 :])):
        written(folder / "Flickr8k_text" / f"Flickr_8k.{split}Images.txt", "\n".join(chosen) + "\n")


def cifar100(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    names = [b"apple", b"aquarium_fish", b"baby"]
    batches = {"meta": {b"fine_label_names": names, b"coarse_label_names": [b"fish", b"fruit"]}}
    for split, count in (("train", ROWS), ("test", 2)):
        pixels = np.random.default_rng(count).integers(0, 256, (count, 3072), dtype=np.uint8)
        labels = [n % 3 for n in range(count)]
        batches[split] = {
            b"data": pixels,
            b"fine_labels": labels,
            b"coarse_labels": labels,
            b"filenames": [b"x.png"] * count,
        }
    for name, batch in batches.items():
        (folder / name).write_bytes(pickle.dumps(batch, protocol=2))


def tinystories(folder: Path) -> None:
    stories = [f"One day, {words} went out.\nIt was a {n} day." for n, words in enumerate(WORDS)]
    parquet(folder / "data" / "train-00000-of-00004-2d5a1467fff1081b.parquet", text=stories[:3])
    parquet(folder / "data" / "train-00001-of-00004-5852b56a2bd28fd9.parquet", text=stories[3:])
    parquet(folder / "data" / "validation-00000-of-00001-869c898b519ad725.parquet", text=["Two dogs slept. The end."])


def wikitext103(folder: Path) -> None:
    paragraphs = ["", " = Valkyria = \n", *(f" Senjō no {words} , 2011 @,@ 000 . \n" for words in WORDS)]
    parquet(folder / "train-00000-of-00002.parquet", text=paragraphs)
    for split in ("validation", "test"):
        parquet(folder / f"{split}-00000-of-00001.parquet", text=["", " = Robert Boulter = \n", " He is an actor . \n"])


def fineweb_edu(folder: Path) -> None:
    reading, texts = Reading(split_shares=SHARES), {"train": [], "val": [], "test": []}
    for n in range(60):
        name = f"<urn:uuid:{n:08}>"
        texts[reading.with_split({"id": name}, 0)["split"]].append((f"Lesson {n}: {WORDS[n % ROWS]} and more.", name))
    rows = texts["train"][:3] + texts["val"][:1] + texts["test"][:1]
    for number, part in enumerate((rows[:3], rows[3:])):
        columns = {"text": [text for text, _ in part], "id": [name for _, name in part], "score": [3.5] * len(part)}
        parquet(
            folder / f"{number:03}_00000.parquet", **columns, token_count=[9] * len(part), language=["en"] * len(part)
        )


def llava(folder: Path) -> None:
    coco(folder / "coco")
    reading, chosen = Reading(split_shares=SHARES), {"train": [], "val": [], "test": []}
    for n in range(60):
        chosen[reading.with_split({"id": f"{n:012}"}, 0)["split"]].append(f"{n:012}")
    rows = []
    for name in chosen["train"][:3] + chosen["val"][:1] + chosen["test"][:1]:
        photo(folder / "coco" / "train2017" / f"{name}.jpg", int(name))
        turns = [("human", "<image>\nWhat is it?"), ("gpt", "A bus."), ("human", "Where?"), ("gpt", "On a road.")]
        rows.append(
            {"id": name, "image": f"{name}.jpg", "conversations": [{"from": who, "value": text} for who, text in turns]}
        )
    written(folder / "llava_instruct_150k.json", json.dumps(rows))
    fineweb_edu(folder / "text")


def omni_real(folder: Path) -> None:
    """Of text, recordings and pictures a few each, with what they are tested by."""
    written(
        folder / "text" / "book.txt", "\n".join(f"Line {n} of the book, about {WORDS[n % ROWS]}." for n in range(400))
    )
    for name, words in (("an4", ("yes", "no", "a b c")), ("ljspeech", ("the press was good", "in one", "of it"))):
        rows = []
        for n in range(2 * ROWS):
            clip = f"audio/{n or HELD_OUT}.flac"
            recording(folder / name / clip, n, rate=16000)
            split = "dev" if n >= 2 * ROWS - 2 else "train"
            rows.append({"audio": clip, "text": words[n % 3], "speaker": f"s{n % 2}", "split": split})
        written(folder / name / "manifest.jsonl", "\n".join(map(json.dumps, rows)))
    for split, count in (("train", 4 * ROWS), ("dev", ROWS)):
        pixels = np.random.default_rng(count).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
        (folder / "cifar10").mkdir(exist_ok=True)
        np.savez(folder / "cifar10" / f"{split}.npz", images=pixels, labels=np.arange(count, dtype=np.uint8) % 3)
    written(folder / "cifar10" / "classes.json", json.dumps(["airplane", "bird", "cat"]))
    rows = []
    for n in range(ROWS):
        photo(folder / "coco_mini" / "images" / f"{n}.jpg", n)
        rows.append(
            {"id": n, "image": f"images/{n}.jpg", "split": "train", "captions": CAPTIONS[n], "objects": {"cat": 1}}
        )
    written(folder / "coco_mini" / "manifest.jsonl", "\n".join(map(json.dumps, rows)))
