"""What a row of each shape is in the benchmark: its JSON, and the one small recording or image that all rows have."""

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
from PIL import Image

NUMBER, TEXT, MEDIUM = "{n}", "{t}", "{m}"  # in a template: nine digits, words, the medium's name
SECONDS, RATE, SIDE = 0.05, 8000, 8  # a medium of less than a block of a tar file


@dataclass(frozen=True)
class RowShape:
    """template: of a row's JSON, as an index of a large manifest and a pack write it. suffix, content: of its medium, "" and
    b"" for none. seconds: of a recording."""

    name: str
    template: str
    suffix: str = ""
    content: bytes = b""
    seconds: float = float("nan")

    def write_medium(self, folder: Path) -> str:
        """Its absolute path; "" for none."""
        if not self.suffix:
            return ""
        path = folder.absolute() / f"medium{self.suffix}"
        path.write_bytes(self.content)
        return str(path)


def _recording() -> bytes:
    file = io.BytesIO()
    noise = np.random.default_rng(0).normal(0, 0.1, round(SECONDS * RATE))
    soundfile.write(file, noise.clip(-1, 1), RATE, format="WAV", subtype="ULAW")
    return file.getvalue()


def _image() -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (SIDE, SIDE, 3), dtype=np.uint8)).save(file, "PNG")
    return file.getvalue()


def row_shapes() -> dict[str, RowShape]:
    """By name."""
    recording, image = _recording(), _image()
    question = '{"role":"user","content":[{"type":"image","image":"{m}"},{"type":"text","text":"what is it?"}]}'
    answer = '{"role":"assistant","content":[{"type":"text","text":"{t}"}]}'
    found = (
        RowShape("text", '{"id":"row-{n}","text":"{t}"}'),
        RowShape("speech", '{"id":"row-{n}","text":"{t}","audio":"{m}"}', ".wav", recording, SECONDS),
        RowShape("image_text", '{"id":"row-{n}","captions":["{t}"],"image":"{m}"}', ".png", image),
        RowShape("sft", f'{{"id":"row-{{n}}","messages":[{question},{answer}]}}', ".png", image),
    )
    return {each.name: each for each in found}
