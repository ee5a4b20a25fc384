"""Hostile forms: very many parts, lying names, borders that are missing or do not end."""

import random
from collections.abc import Sequence

from benchmarks.fuzz.media import sound_seeds
from benchmarks.serving.hostile.shot import TRANSCRIPTIONS, Shot, request

BORDER = "----border"
LYING = (
    "../../etc/passwd", "/etc/passwd", "..\\..\\windows\\system.ini", "a.wav\0.txt", "", "a" * 5000, "CON",
    "a\r\nX: y", '"', "\u202egnp.wav",
    "~/.ssh/id_rsa", "file:///etc/passwd", "|id", "$(id)",
)  # fmt: skip


def body(parts: Sequence[tuple[str, str | None, bytes]], *, border: str = BORDER, end: bool = True) -> bytes:
    """(name, filename or None, content) of each part."""
    pieces = []
    for name, filename, content in parts:
        file = "" if filename is None else f'; filename="{filename}"'
        head = f'--{border}\r\nContent-Disposition: form-data; name="{name}"{file}\r\n\r\n'
        pieces.append(head.encode("utf-8", errors="surrogatepass") + content + b"\r\n")
    return b"".join(pieces) + (f"--{border}--\r\n".encode() if end else b"")


def form(parts: Sequence[tuple[str, str | None, bytes]], *, field: str | None = None, passes: bool = False) -> Shot:
    """The transcription route with these parts."""
    kind = {"Content-Type": f"multipart/form-data; boundary={BORDER}"}
    return Shot(sends=[request(TRANSCRIPTIONS, body(parts), headers=kind)], field=field, passes=passes)


def _file(rng: random.Random) -> tuple[str, str | None, bytes]:
    return "file", "a.wav", rng.choice(sound_seeds())[1]


def lying_names(rng: random.Random) -> Shot:
    """File names that are paths or commands: nobody opens them."""
    name = rng.choice(LYING)
    content = rng.choice((sound_seeds()[0][1], b"", b"/etc/passwd"))
    return form([("model", None, b"m"), ("file", name, content)], passes=True)


def paths_for_files(rng: random.Random) -> Shot:
    """A path in place of the file."""
    parts: list[tuple[str, str | None, bytes]] = [("file", None, rng.choice(LYING).encode()), ("model", None, b"m")]
    return form(parts, field="file")


def many_parts(rng: random.Random) -> Shot:
    """Very many fields or files."""
    count = rng.choice((900, 1100, 20_000))
    name = rng.choice(("file", "model", "x", "timestamp_granularities[]"))
    return form([_file(rng), ("model", None, b"m"), *[(name, rng.choice((None, "a")), b"word")] * count])


def odd_fields(rng: random.Random) -> Shot:
    """Fields with values that they do not have."""
    name, value = rng.choice((
        ("temperature", b"nan"), ("temperature", b"1e999"), ("temperature", b"-1"), ("language", b"../../etc/passwd"),
        ("language", b"\xff"),
        ("response_format", b"exe"), ("stream", b"maybe"), ("timestamp_granularities[]", b"../x"), ("x" * 5000, b"1"),
        ("\0", b"1"),
        ("\ud800", b"1"), ("_charset_", b"utf-7"), ("model", b"m" * 100_000), ("prompt", b"p" * 2_000_000),
        ("include[]", b"logprobs"),
        ("chunking_strategy", b"{}"), ("", b""), ("file", b""), ("language", "\N{SNOWMAN}".encode() * 20),
        ("stream", b"\0"),
    ))  # fmt: skip
    return form([("model", None, b"m"), _file(rng), (name, None, value)], passes=name in ("prompt",))


def broken_borders(rng: random.Random) -> Shot:
    """Forms that do not begin, divide or end as they say."""
    parts: list[tuple[str, str | None, bytes]] = [("model", None, b"m"), _file(rng)]
    kind = f"multipart/form-data; boundary={BORDER}"
    content, choice = body(parts), rng.randrange(10)
    if choice == 0:
        kind = "multipart/form-data"
    elif choice == 1:
        kind = f"multipart/form-data; boundary={'b' * rng.choice((71, 3000))}"
    elif choice == 2:
        kind = "multipart/form-data; boundary="
    elif choice == 3:
        content = body(parts, end=False)
    elif choice == 4:
        content = content[: rng.randrange(len(content))]
    elif choice == 5:
        content = content.replace(b"\r\n", b"\n")
    elif choice == 6:
        content = b"--" + BORDER.encode() + b"\r\n" + b"X-Long: " + b"a" * 100_000 + b"\r\n\r\n" + content
    elif choice == 7:
        content = (f"--{BORDER}\r\n".encode()) * 20_000
    elif choice == 8:
        kind, content = f"multipart/mixed; boundary={BORDER}", content
    else:
        content = rng.randbytes(5000) + content[50:]
    return Shot(sends=[request(TRANSCRIPTIONS, content, headers={"Content-Type": kind})], passes=choice in (3, 4))


MAKERS = (lying_names, paths_for_files, many_parts, odd_fields, broken_borders)
