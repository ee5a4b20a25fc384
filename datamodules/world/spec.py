"""What a world is made of: every number that a stranger would change, and the presets ci, small and base.

`WorldSpec.of("small", seed=3, train_pictures=2000)` takes a preset and overrides any field. Sizes say how many items
there are; the other fields say what the items are. Another seed is a wholly different world of the same difficulty.
"""

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from typing import Any

from datamodules.world.wording import ROTATIONS

VERSION = 23  # of the generator: any change of what it writes raises it, and with it every fingerprint

PRESETS = ("ci", "small", "base")


def by_preset(*sizes: int) -> Any:
    """A field without a default, with one value for each of PRESETS."""
    return dataclasses.field(metadata=dict(zip(PRESETS, sizes, strict=True)))


@dataclass(frozen=True, kw_only=True)
class WorldSpec:
    """One world. Build it with `WorldSpec.of(preset, **overrides)`.

    level        easy | hard (names of several tokens, larger numbers and some beyond the trained range, longer stories)
    rotation     0..7: which colour-shape pairs are held out; held_out 6 | 12 of the 48 pairs
    wording      0..4: which forms and synonyms are held out for test_para; canonical 0..1: share of what training says in
                 its canonical form
    speakers     3..10 voices, the last two held out; speaker 0 is the narrator
    monochrome   share of train pictures drawn in grey, whose captions and questions name no colour
    digits       share of train pictures that hold one written digit instead of shapes
    crowded      share of train pictures with five objects; spoken questions count them, typed ones never all of them
    """

    preset: str
    seed: int = 0
    level: str = "easy"
    rotation: int = 0
    held_out: int = 6
    wording: int = 0
    canonical: float = 0.5
    speakers: int = 10
    monochrome: float = 0.15
    digits: float = 0.05
    crowded: float = 0.1
    image_size: int = by_preset(32, 64, 96)
    people: int = by_preset(32, 256, 256)
    text_bytes: int = by_preset(200_000, 12_000_000, 100_000_000)
    text_eval_documents: int = by_preset(60, 1_000, 4_000)
    text_questions: int = by_preset(24, 300, 500)
    train_pictures: int = by_preset(256, 12_000, 100_000)
    eval_pictures: int = by_preset(40, 200, 400)
    train_writings: int = by_preset(64, 12_000, 60_000)
    eval_writings: int = by_preset(16, 300, 600)
    speech_utterances: int = by_preset(64, 3_000, 50_000)
    narrator_utterances: int = by_preset(32, 2_000, 10_000)
    speech_val: int = by_preset(8, 100, 300)
    speech_test: int = by_preset(16, 200, 600)
    instructions: int = by_preset(300, 150_000, 400_000)
    instruction_val: int = by_preset(30, 600, 2_000)
    instruction_questions: int = by_preset(10, 250, 500)
    instruction_tests: int = by_preset(8, 150, 300)

    @classmethod
    def of(cls, preset: str, **overrides: Any) -> "WorldSpec":
        """The preset with fields overridden; an override of None keeps the preset's own value.

        Raises ValueError for an unknown preset or field, or a value out of range.
        """
        if preset not in PRESETS:
            raise ValueError(f"world: unknown preset {preset!r}; presets are {', '.join(PRESETS)}")
        values = {field.name: field.metadata.get(preset, field.default) for field in dataclasses.fields(cls)[1:]}
        for name, value in overrides.items():
            if name not in values:
                raise ValueError(f"world: unknown option {name!r}; options are {', '.join(values)}")
            if value is not None:
                values[name] = value
        return cls(preset=preset, **values)

    def __post_init__(self) -> None:
        def check(name: str, good: bool, wanted: str) -> None:
            if not good:
                raise ValueError(f"world: {name}={getattr(self, name)!r} must be {wanted}")

        check("level", self.level in ("easy", "hard"), "easy or hard")
        check("rotation", self.rotation in range(8), "0..7")
        check("held_out", self.held_out in (6, 12), "6 or 12")
        check("wording", self.wording in range(ROTATIONS), f"0..{ROTATIONS - 1}")
        check("canonical", 0 <= self.canonical <= 1, "0..1")
        check("speakers", self.speakers in range(3, 11), "3..10 (the last two are held out)")
        check("monochrome", 0 <= self.monochrome <= 0.5, "0..0.5")
        check("digits", 0 <= self.digits <= 0.5, "0..0.5")
        check("crowded", 0 <= self.crowded <= 0.4, "0..0.4")
        check("image_size", self.image_size in range(24, 513), "24..512 pixels")
        check("people", self.people in range(16, 769, 16), "a multiple of 16 up to 768")
        for field in dataclasses.fields(self):
            check(field.name, not field.metadata or getattr(self, field.name) >= 1, "at least 1")

    def folder(self) -> str:
        """The name of the world's folder, `<preset>-s<seed>-<hash8>`; the hash differs whenever the files differ."""
        text = json.dumps({"version": VERSION, **dataclasses.asdict(self)}, sort_keys=True)
        return f"{self.preset}-s{self.seed}-{hashlib.blake2b(text.encode(), digest_size=4).hexdigest()}"


def speech_counts(spec: WorldSpec) -> dict[str, int]:
    """How many utterances each stream has."""
    return {"train": spec.speech_utterances, "narrator": spec.narrator_utterances, "val": spec.speech_val,
            "test": spec.speech_test, "test_voice": spec.speech_test * 3 // 4}  # fmt: skip
