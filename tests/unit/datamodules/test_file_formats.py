"""Entries of data files: one table in every format reads the same, and every mistake is named by its place."""

import csv
import json
import random
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datamodules.formats import BadRow, read_entries
from datamodules.manifests import read_manifest
from tests.conftest import ROOT

KEYS = {"speech": ("audio", "text"), "image_text": ("image", "caption"), "ocr": ("image", "text"), "text": ("text",)}
PIECES = [
    "the cat",
    ",",
    '"',
    '""',
    "\n",
    "\r\n",
    "'",
    ";",
    "\t",
    "é",
    "μ",
    "漢字",
    "#",
    "\\n",
    "{",
    " ",
    "\ufeff",
    "\u2028",
]


def random_table(shape, seed, folder):
    """Rows of strings that try every kind of quoting; media that exist; a column that some rows leave empty."""
    draw = random.Random(seed)
    rows = []
    for number in range(draw.randint(1, 12)):
        row = {key: "x" + "".join(draw.choices(PIECES, k=draw.randint(0, 8))) + "y" for key in KEYS[shape]}
        for key in {"audio", "image"} & set(row):
            (folder / "media").mkdir(exist_ok=True)
            (folder / "media" / f"{number},“{key}”.bin").touch()
            row[key] = f"media/{number},“{key}”.bin"
        rows.append(row | ({"category": f"c{number}"} if draw.random() < 0.5 else {}))
    return rows


def write_csv(path, rows, *, header, **how):
    with path.open("w", encoding=how.pop("encoding", "utf-8"), newline="") as file:
        writer = csv.DictWriter(file, header, **how)
        writer.writeheader()
        writer.writerows(rows)
    return path


def write_json(path, rows):
    path.write_text(json.dumps(rows, ensure_ascii=False), encoding="utf-8")
    return path


def write_jsonl(path, rows):
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n\n" for row in rows), encoding="utf-8")
    return path


def without_id(rows):
    return [{key: value for key, value in row.items() if key != "id"} for row in rows]


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("shape", KEYS)
def test_a_table_reads_the_same_in_every_format(tmp_path, shape, seed):
    rows = random_table(shape, seed, tmp_path)
    header = [*KEYS[shape], "category"]
    random.Random(seed).shuffle(header)
    crlf = {"lineterminator": "\r\n" if seed % 2 else "\n", "quoting": csv.QUOTE_ALL if seed % 3 else csv.QUOTE_MINIMAL}
    crlf["encoding"] = "utf-8-sig" if seed % 4 < 2 else "utf-8"
    found = [
        read_manifest(path, shape=shape)
        for path in (
            write_jsonl(tmp_path / "t.jsonl", rows),
            write_json(tmp_path / "t.json", rows),
            write_csv(tmp_path / "t.CSV", rows, header=header, **crlf),
        )
    ]
    assert without_id(found[0]) == without_id(found[1]) == without_id(found[2])
    assert len(found[0]) == len(rows)
    for row, put_in in zip(found[0], rows, strict=True):
        assert row.get("text") == put_in.get("text") and row.get("category") == put_in.get("category")
    assert [row["id"] for row in found[1]] == [f"{tmp_path}/t.json:{number}" for number in range(1, len(rows) + 1)]


#: What a text may hold: any character that UTF-8 has, and often one that some reader takes for the end of something.
AWKWARD = st.sampled_from(
    [*" \t\"',;{}[]\\\x00\x0b\x0c\x1c\x1d\x1e\x85\xa0\u1680\u2028\u2029\u2581\u3000\ufeff\ufffd", "😀", "́"]
)
ANY = st.one_of(st.integers(0, 0xD7FF), st.integers(0xE000, 0x10FFFF)).map(chr)  # all but halves of characters
TEXT = (
    st.lists(st.one_of(AWKWARD, ANY), min_size=1, max_size=12)
    .map("".join)
    .filter(
        lambda text: 4 * text.count("\0") < len(text)  # a file of which a quarter are zeros is taken for UTF-16
    )
)
LINE = TEXT.filter(lambda text: not set(text) & set("\r\n"))


def texts_of(path):
    return [row["text"] for row in read_manifest(path, shape="text")]


@settings(max_examples=40, deadline=None, database=None)
@given(texts=st.lists(TEXT, min_size=1, max_size=4), crlf=st.booleans(), mark=st.booleans(), escaped=st.booleans())
def test_a_text_reads_the_same_in_each_format(tmp_path_factory, texts, crlf, mark, escaped):
    """Leading and trailing space, separators of lines that are none, zeros: a manifest gives what was put in."""
    folder = tmp_path_factory.mktemp("t")
    texts = [text for text in texts if text.strip()] or ["x"]
    encoding, end = "utf-8-sig" if mark else "utf-8", "\r\n" if crlf else "\n"
    lines = [json.dumps({"text": text}, ensure_ascii=escaped) for text in texts]
    (folder / "t.jsonl").write_text(end.join(lines), encoding=encoding, newline="")
    (folder / "t.json").write_text(f"[{','.join(lines)}]", encoding=encoding, newline="")
    rows = [{"text": text} for text in texts]
    write_csv(folder / "t.csv", rows, header=["text"], encoding=encoding, lineterminator=end, quoting=csv.QUOTE_ALL)
    assert texts_of(folder / "t.jsonl") == texts_of(folder / "t.json") == texts_of(folder / "t.csv") == texts


@settings(max_examples=40, deadline=None, database=None)
@given(texts=st.lists(LINE, min_size=1, max_size=4), crlf=st.booleans(), blank=st.booleans())
def test_lines_of_text_read_as_what_they_are(tmp_path_factory, texts, crlf, blank):
    path = tmp_path_factory.mktemp("t") / "t.txt"
    texts = [text for text in texts if text.strip()] or ["x"]
    path.write_text(("\r\n" if crlf else "\n").join(texts) + "\n" * blank, encoding="utf-8-sig", newline="")
    assert texts_of(path) == texts


def test_a_cell_may_hold_a_book(tmp_path):
    book = 'he said ""no"", and\n' * 20_000
    (tmp_path / "x.csv").write_text(f'text\n"{book}"\nlast\n')
    first, last = texts_of(tmp_path / "x.csv")
    assert (first, last) == (book.replace('""', '"'), "last") and len(first) > 131_072


def test_files_that_were_joined_keep_their_byte_order_marks(tmp_path):
    one = b'\xef\xbb\xbf{"text": "a"}\n'
    (tmp_path / "x.jsonl").write_bytes(one + one)
    assert texts_of(tmp_path / "x.jsonl") == ["a", "a"]


def test_ids_are_of_one_row_alone(tmp_path):
    """Of two files with one name, of a file of another format beside it, and of rows that say the same id."""
    found = []
    for name in ("train/m.jsonl", "val/m.jsonl", "val/m.json"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        rows = [{"text": "a"}, {"text": "b", "id": ""}, {"text": "c", "id": 7}, {"text": "d", "id": "7"}]
        path.write_text(json.dumps(rows) if name.endswith("json") else "\n".join(map(json.dumps, rows)))
        ids = [str(row["id"]) for row in read_manifest(path, shape="text")]
        assert ids[2:] == ["7", f"7 ({path}:4)"]
        found += ids[:2]
    assert len(set(found)) == 6


@pytest.mark.parametrize("header", ["wav,text", "text,wav", " text , wav ,note", "audio,text,speaker"])
def test_csv_columns_are_found_by_name(tmp_path, header):
    """ASR is `wav,text`, TTS `text,wav`; the predecessor's column `wav` is our key `audio`."""
    (tmp_path / "a.wav").touch()
    cells = {"wav": "a.wav", "audio": "a.wav", "text": '"one, ""two"""', "note": "", "speaker": "7"}
    names = [name.strip() for name in header.split(",")]
    (tmp_path / "x.csv").write_text(f"{header}\n\n{','.join(cells[name] for name in names)}\n")
    (row,) = read_manifest(tmp_path / "x.csv", shape="speech")
    expected = {"audio": str(tmp_path / "a.wav"), "text": 'one, "two"', "id": f"{tmp_path}/x.csv:3"}
    assert row == expected | ({"speaker": "7"} if "speaker" in names else {})


def test_an_id_names_the_line_on_which_a_record_begins(tmp_path):
    (tmp_path / "x.csv").write_bytes(b'text,id\r\n"two\r\nlines",\r\n\r\nplain,mine\r\nlast,\r\n')
    path = tmp_path / "x.csv"
    assert [row["id"] for row in read_manifest(path, shape="text")] == [f"{path}:2", "mine", f"{path}:6"]


@pytest.mark.parametrize("name", ["x.txt", "x", "x.tokens", "x.TXT"])
def test_text_is_a_sample_a_line(tmp_path, name):
    path = tmp_path / name
    path.write_bytes("\ufeffone é\r\n\r\n   \n two \nold\rmac\u2028line\n{not json".encode())
    rows = read_manifest(path, shape="text")
    assert [row["text"] for row in rows] == ["one é", " two ", "old", "mac\u2028line", "{not json"]
    assert [row["id"] for row in rows] == [f"{path}:{number}" for number in (1, 4, 5, 6, 7)]


def test_json_lines_with_a_byte_order_mark(tmp_path):
    (tmp_path / "x.jsonl").write_bytes(b'\xef\xbb\xbf{"text": "a"}\r\n{"text": "b"}')
    assert [row["text"] for row in read_manifest(tmp_path / "x.jsonl", shape="text")] == ["a", "b"]


WRONG_FILES = [
    ("speech", "x.xlsx", b"wav,text", r"x\.xlsx: unknown format '\.xlsx'; a manifest of shape speech is \.jsonl, "),
    ("speech", "x.txt", b"a", r"unknown format '\.txt'"),
    ("image_text", "x", b"[]", r"unknown format ''"),
    ("text", "corpus", b'\n{"text": "a"}\n', r"corpus:2: a line of JSON: name the file \.jsonl"),
    ("speech", "x.csv", b"", r"x\.csv:1: no header row"),
    (
        "speech",
        "x.csv",
        b"\xef\xbb\xbf\nwav;text\n",
        r"x\.csv:2: .* columns wav,text or audio,text; it reads 'wav;text'",
    ),
    ("speech", "x.csv", b"a.wav,hello\n", r"it reads 'a\.wav,hello'"),
    ("ocr", "x.csv", b"text,wav\n", r"columns image,text; it reads"),
    ("text", "x.csv", b"prompt,text2\n", r"columns text or prompt,answer"),
    ("speech", "x.csv", b"wav,text,text\n", r"x\.csv:1: two columns are named 'text'"),
    ("sft", "x.csv", b"messages\n", r"a manifest of shape sft cannot be CSV"),
    ("text", "x.csv", b'text\n"a\nb\nc\n', r"x\.csv:2: a quoted field begins here and does not end well"),
    ("text", "x.csv", b'text\ngood\n"a\nb" c\nd\n', r"x\.csv:3: a quoted field begins here .* at line 4"),
    ("text", "x.csv", b'"text\n', r"x\.csv:1: not CSV"),
    ("text", "x.csv", b'text\nfine\n"caf\xe9"\n', r"x\.csv:3: not UTF-8"),
    ("text", "x.txt", "ab\nc\n".encode("utf-16-le"), r"x\.txt:1: not UTF-8 .*UTF-16"),
    ("text", "x.txt", "ab\nc\n".encode("utf-16"), r"x\.txt:1: not UTF-8 .*save the file as UTF-8"),
    ("text", "x.txt", b"ab\r\nc\xe9\n", r"x\.txt:2: not UTF-8"),
    ("text", "x.txt", b"ab\nc\xc3", r"x\.txt:2: not UTF-8"),
    ("text", "x.json", b'[\n"\xff"]', r"x\.json:2: not UTF-8"),
    ("text", "x.json", b'[{"text": "a"},\n{"text": }]', r"x\.json:2: not JSON \(Expecting value at column 10\)$"),
    ("text", "x.json", b'{"text": "a"}\n{"text": "b"}', r"x\.json:2: .* an object a line is a \.jsonl file"),
    ("text", "x.json", b'{"rows": []}', r"x\.json: not a JSON array; a \.json manifest is an array of objects"),
    ("text", "x.json", b"", r"x\.json:1: not JSON"),
    ("text", "x.json", b"[]", r"x\.json: no rows"),
    ("text", "x.csv", b"text\n", r"x\.csv: no rows"),
]


@pytest.mark.parametrize(("shape", "name", "content", "message"), WRONG_FILES)
def test_a_file_that_cannot_be_read_is_one_line_that_says_why(tmp_path, shape, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message) as error:
        read_manifest(tmp_path / name, shape=shape)
    assert "\n" not in str(error.value)


BAD_ENTRIES = [
    ("x.csv", b"text,wav\nfine,a.wav\n,a.wav\n", "x.csv:3: empty cell in column 'text'"),
    ("x.csv", b"text,wav\nfine,a.wav\nhello, \n", "x.csv:3: empty cell in column 'wav'"),
    ("x.csv", b"text,wav\nfine,a.wav\nhello, you,a.wav\n", "x.csv:3: cells: 3, columns: 2; quote what holds a comma"),
    ("x.csv", b"text,wav\nfine,a.wav\nhello\n", "x.csv:3: cells: 1, columns: 2"),
    ("x.csv", b'text,wav\nfine,a.wav\n"he"llo,a.wav\n', "x.csv:3: not CSV"),
    ("x.csv", b'text,wav\nfine,a.wav\nend,"a.wav', "x.csv:3: not CSV"),
    ("x.csv", b"text,wav\nfine,a.wav\nhello,none.wav\n", "x.csv:3: missing file none.wav"),
    ("x.json", b'[{"wav": "a.wav", "text": "fine"}, 3]', "x.json, entry 2: not a JSON object"),
    ("x.json", b'[{"wav": "a.wav", "text": "fine"}, {"wav": "a.wav"}]', "x.json, entry 2: empty or missing 'text'"),
    ("x.json", b'[{"wav": "a.wav", "text": "fine"}, {"text": "x"}]', "x.json, entry 2: no 'audio'"),
    ("x.jsonl", b'{"wav": "a.wav", "text": "fine"}\n[{}]', "x.jsonl:2: not a JSON object (an array of them is a .json"),
]


@pytest.mark.parametrize(("name", "content", "message"), BAD_ENTRIES)
def test_a_bad_entry_is_named_by_its_place(tmp_path, name, content, message):
    (tmp_path / "a.wav").touch()
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match="1 of 2 samples cannot be used") as error:
        read_manifest(tmp_path / name, shape="speech")
    assert f"the first: {tmp_path}/{message}" in str(error.value) and "\n" not in str(error.value)


def test_after_a_malformed_record_the_next_ones_are_read(tmp_path):
    lines = ["text", *["good"] * 60, '"bad" one', *["good"] * 60]
    (tmp_path / "x.csv").write_text("\n".join(lines))
    entries = list(read_entries(tmp_path / "x.csv", shape="text"))
    assert [number for number, entry in entries if isinstance(entry, BadRow)] == [62]
    assert len(read_manifest(tmp_path / "x.csv", shape="text")) == 120


def test_the_examples_of_the_document_are_read(tmp_path):
    """docs/data/formats.md: the JSON lines by shape, the array, and the three tables that stand side by side."""
    text = (ROOT / "docs" / "data" / "formats.md").read_text()
    for name in ("a.jpg", "a.flac", "sign.png", "000000000790.jpg", "clips/a.wav"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    lines = re.findall(r"^    (\{.*\})$", text, flags=re.MULTILINE)
    for shape, line in zip(("text", "text", "image_text", "speech", "ocr", "sft"), lines, strict=True):
        (tmp_path / "x.jsonl").write_text(line)
        assert len(read_manifest(tmp_path / "x.jsonl", shape=shape)) == 1
    (array,) = re.findall(r"^    (\[.*\])$", text, flags=re.MULTILINE)
    (tmp_path / "x.json").write_text(array)
    assert read_manifest(tmp_path / "x.json", shape="image_text")[0]["category"] == "dog"
    header, cells = re.search(r"^    (wav,text .*)\n    (.*)$", text, flags=re.MULTILINE).groups()
    tables = zip(("speech", "speech", "ocr"), re.split(r" {3,}", header), re.split(r" {3,}", cells), strict=True)
    for shape, names, record in tables:
        (tmp_path / "x.csv").write_text(f"{names}\n{record}\n")
        assert len(read_manifest(tmp_path / "x.csv", shape=shape)) == 1
