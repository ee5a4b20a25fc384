"""What is spoken: sentences of the world's grammar, spelled words, strings of digits, and general words.

A text is normalised: lower case, numbers in words, letters, spaces and apostrophes only. Its split is the hash of the
text, so that no sentence of a test is spoken in training by any voice.
"""

from datamodules.world.arithmetic import equation
from datamodules.world.captions import describe, enumerate_things, relate
from datamodules.world.lexicon import DIGITS, RELATIONS, THINGS, WORDS
from datamodules.world.questions import TYPES, candidates, draw_any
from datamodules.world.rng import Choices, content_split, item_rng
from datamodules.world.spec import WorldSpec
from datamodules.world.stories import draw_line
from datamodules.world.text import TextWorld
from muomni.frontends.text_normalizer import LETTERS, normalize_text

UTTERANCE_SHARES = {"sentence": 0.72, "spelled": 0.08, "digits": 0.1, "words": 0.1}
NARRATOR_SHARES = {"sentence": 0.9, "words": 0.1}
SENTENCES = {"caption": 0.35, "question": 0.25, "fact": 0.2, "sum": 0.1, "story": 0.1}
FEWEST_WORDS, MOST_WORDS = 3, 12


def normalise(text: str) -> str:
    """As training and inference say it: "12 + 7?" -> "twelve plus seven"."""
    return normalize_text(text, LETTERS).text


def engine_text(text: str, kind: str) -> str:
    """What the engine is given: as the text, but the letter a of a spelled word as its name, not as the article."""
    return " ".join("[[eI]]" if letter == "a" else letter for letter in text.split()) if kind == "spelled" else text


class Sentences:
    """The spoken texts of one world."""

    def __init__(self, spec: WorldSpec):
        self.spec = spec
        self.world = TextWorld(spec)

    def draw(self, split: str, stream: str, index: int, shares: dict[str, float]) -> tuple[str, str]:
        """(kind, text) of item `index` of a stream; its text belongs to `split`."""
        rng = item_rng(self.spec.seed, split, f"speech {stream}", index)
        while True:
            choices = Choices(rng)
            kind = choices.weighted(tuple(shares), tuple(shares.values()))
            text = self._text(choices, kind)
            if content_split(self.spec.seed, "speech", text) == split.split("_")[0]:
                return kind, text

    def _text(self, choices: Choices, kind: str) -> str:
        if kind == "sentence":
            return self.sentence(choices)
        if kind == "spelled":
            return " ".join(choices.pick(WORDS))
        options, counts = (DIGITS, (3, 4, 5, 6)) if kind == "digits" else (WORDS, (3, 4, 5))
        return " ".join(choices.pick(options) for _ in range(choices.pick(counts)))

    def sentence(self, choices: Choices) -> str:
        """A normalised sentence of 3 to 12 words about trained pairs only."""
        while True:
            source = choices.weighted(tuple(SENTENCES), tuple(SENTENCES.values()))
            text = normalise(self._source(choices, source))
            if FEWEST_WORDS <= len(text.split()) <= MOST_WORDS:
                return text

    def _source(self, choices: Choices, source: str) -> str:
        wording = self.world.wording
        if source == "fact":
            if choices.rng.random() < 0.5:
                return self.world.facts.spoken_question(choices, "spoken")
            return self.world.facts.statement(choices)
        if source == "sum":
            return equation(self.world.arithmetic.draw(choices), words=True)
        if source == "story":
            if choices.pick((False, True)):
                return wording.form(choices, "story", "spoken").format(a=f"the {choices.pick(THINGS)}")
            return draw_line(choices, wording)
        scene = self.world.things(choices, choices.pick((1, 2, 2)), placed=True)
        if source == "caption":
            form = choices.pick(range(3))
            if form == 0:
                return describe(scene[:1])
            if form == 1 and len(scene) > 1:
                return relate(scene, choices.pick(RELATIONS))
            return enumerate_things(choices, wording, scene, "spoken")
        question = draw_any(choices, {name: candidates(scene, name) for name in TYPES})
        return question.text(wording.form(choices, question.type, "spoken"))
