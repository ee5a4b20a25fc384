"""Instructions of training and validation: items of seven tasks over the pictures and utterances of their split.

Item j of a task about pictures asks about picture j mod (number of pictures), in round j // (number of pictures), and
likewise for speech: what is asked of a picture depends on its index and the round alone. Every row is
{"id", "split", "task", "messages", "answer", "meta": {"question", ..}}; paths are relative to the folder of
instructions.
"""

import os
from collections.abc import Callable
from functools import cached_property, partial
from pathlib import Path

from datamodules.world import prompts
from datamodules.world.arithmetic import expression, value_text
from datamodules.world.captions import describe, object_records
from datamodules.world.files import Row
from datamodules.world.lexicon import COLOURS, SHAPES, UNITS
from datamodules.world.pictures import PictureWorld, picture_counts, picture_path
from datamodules.world.questions import DIGIT_PHRASES, PHRASES, Question, candidates, draw_question, keep_shares
from datamodules.world.rng import Choices, content_split, digest, item_rng
from datamodules.world.scene import Scene
from datamodules.world.sentences import normalise
from datamodules.world.spec import WorldSpec, speech_counts
from datamodules.world.speech import SpeechWorld, say, seen_speakers, speech_path, voice_of
from datamodules.world.stories import draw_story
from datamodules.world.text import SUM_PHRASES, TextWorld

Item = dict[str, str]
VOICES_A_QUESTION = 7  # in training; a test takes another of the seen voices


def text(words: str) -> Item:
    """A text item of a message."""
    return {"type": "text", "text": words}


def media(type_: str, path: str) -> Item:
    """An "image" or "audio" item of a message."""
    return {"type": type_, type_: path}


image, audio = partial(media, "image"), partial(media, "audio")


def item(
    task: str, split: str, index: object, user: list[Item], answer: str, meta: Row, spoken: Item | None = None
) -> Row:
    """A row of one question and its answer (or of one sentence to be spoken)."""
    return {
        "id": f"{task}-{split}-{index}", "split": split, "task": task,
        "messages": [{"role": "user", "content": user}, {"role": "assistant", "content": [spoken or text(answer)]}],
        "answer": answer, "meta": meta,
    }  # fmt: skip


def heard(sentence: str) -> dict[str, str]:
    """What of it can be asked: {"heard_colour": "red", ..} for every list of words of which it has exactly one."""
    words = sentence.split()
    found = {}
    for question, names in (("heard_colour", COLOURS), ("heard_shape", SHAPES)):
        named = [word for word in words if word in names]
        if len(named) == 1:
            found[question] = named[0]
    return found


class Instructions:
    """The instructions of one world for train and val."""

    def __init__(self, spec: WorldSpec, folder: Path):
        self.spec = spec
        self.folder = folder
        self.pictures = PictureWorld(spec)
        self.speech = SpeechWorld(spec)
        self.texts = TextWorld(spec)
        self.shares = keep_shares(spec.rotation, spec.held_out)
        self.tasks: dict[str, Callable[[str, int], Row]] = {
            "text_qa": self.text_qa, "image_qa": self.image_qa, "caption": self.caption, "asr": self.asr,
            "audio_qa": self.audio_qa, "spoken_image_qa": self.spoken_image_qa, "tts": self.tts,
        }  # fmt: skip

    def choices(self, split: str, task: str, index: object) -> Choices:
        """The generator of an item."""
        return Choices(item_rng(self.spec.seed, split, f"instruction {task}", index))

    def text_qa(self, split: str, index: int) -> Row:
        """A trained fact, sum or story."""
        choices = self.choices(split, "text_qa", index)
        kind = choices.weighted(tuple(prompts.TEXT_SHARES), tuple(prompts.TEXT_SHARES.values()))
        if kind == "fact":
            question, answer = self.texts.facts.question(choices)
        elif kind == "arithmetic":
            numbers, words = self.texts.arithmetic.draw(choices), choices.pick((False, True))
            question = choices.pick(SUM_PHRASES).format(sum=expression(numbers, words=words))
            answer = value_text(numbers, words=words)
        else:
            question, answer = self._story(choices, split)
        return item("text_qa", split, index, [text(question)], answer, {"question": kind})

    def _story(self, choices: Choices, split: str) -> tuple[str, str]:
        while True:
            story, [(question, answer)] = draw_story(choices, level=self.spec.level)
            if content_split(self.spec.seed, "instruction story", story + question) == split:
                return f"{story} {question}", answer

    def picture(self, split: str, index: int) -> tuple[int, int]:
        """(picture, round) of item `index` about pictures."""
        count = picture_counts(self.spec)[split]
        return index % count, index // count

    def draw_question(self, choices: Choices, scene: Scene, shares: dict[str, float]) -> Question:
        """A balanced question about a scene, its type by `shares`; of colour, shape or place where it answers none such,
        and mostly where it would ask for the number of all objects, which is learnt at once."""
        kind = choices.weighted(tuple(shares), tuple(shares.values()))
        if candidates(scene, kind):
            question = draw_question(choices, scene, kind, self.shares)
            if question.reference != "all" or choices.rng.random() < prompts.COUNT_ALL_KEPT:
                return question
        # not any type: else scenes without relations would be counted more often
        kind = choices.pick([other for other in ("colour", "shape", "where") if candidates(scene, other)])
        return draw_question(choices, scene, kind, self.shares)

    def image_qa(self, split: str, index: int) -> Row:
        """A question about a picture."""
        number, turn = self.picture(split, index)
        choices = self.choices(split, "image_qa", (number, turn))
        path = image(f"../pictures/{picture_path(split, number)}")
        digit = self.pictures.digit(split, number)
        if digit is not None:
            meta = {"question": "digit", "reference": "all"}
            return item("image_qa", split, index, [path, text(choices.pick(DIGIT_PHRASES))], UNITS[digit[0]], meta)
        question = self.draw_question(choices, self.pictures.scene(split, number)[0], prompts.QUESTION_SHARES)
        words = question.text(choices.pick(PHRASES[question.type]))
        meta = {"question": question.type, "reference": question.reference}
        return item("image_qa", split, index, [path, text(words)], question.answer, meta)

    def caption(self, split: str, index: int) -> Row:
        """The description of a picture."""
        number, turn = self.picture(split, index)
        choices = self.choices(split, "caption", (number, turn))
        path = image(f"../pictures/{picture_path(split, number)}")
        digit = self.pictures.digit(split, number)
        meta: Row = {"question": "caption", "objects": []}
        if digit is not None:
            answer = f"the digit {UNITS[digit[0]]} in {COLOURS[digit[1]]}"
        else:
            scene = self.pictures.scene(split, number)[0]
            answer = describe(scene)
            meta["objects"] = object_records(scene)
        return item("caption", split, index, [path, text(choices.pick(prompts.CAPTION))], answer, meta)

    def utterance(self, split: str, index: int) -> tuple[str, str, str]:
        """(path, sentence, kind) of utterance `index` of a split; train's narrator stream follows its first stream."""
        counts = speech_counts(self.spec)
        stream = split
        if split == "train":
            index %= counts["train"] + counts["narrator"]
            if index >= counts["train"]:
                stream, index = "narrator", index - counts["train"]
        kind, sentence, _ = self.speech.utterance(stream, index % counts[stream])
        return f"../speech/{speech_path(stream, index % counts[stream])}", sentence, kind

    def asr(self, split: str, index: int) -> Row:
        """A recording and its transcript."""
        path, sentence, kind = self.utterance(split, index)
        prompt = self.choices(split, "asr", index).pick(prompts.TRANSCRIBE)
        return item("asr", split, index, [audio(path), text(prompt)], sentence, {"question": "asr", "kind": kind})

    @cached_property
    def telling(self) -> dict[str, list[tuple[str, dict[str, str]]]]:
        """By split, the recordings of which something can be asked: (path, what `heard` found)."""
        counts = speech_counts(self.spec)
        numbers = {"train": counts["train"] + counts["narrator"], "val": counts["val"]}
        found: dict[str, list[tuple[str, dict[str, str]]]] = {split: [] for split in numbers}
        for split, number in numbers.items():
            for index in range(number):
                path, sentence, _ = self.utterance(split, index)
                if heard(sentence):
                    found[split].append((path, heard(sentence)))
        return found

    def audio_qa(self, split: str, index: int) -> Row:
        """A recording and the one colour or shape that it names."""
        pool = self.telling[split]
        path, answers = pool[index % len(pool)]
        choices = self.choices(split, "audio_qa", index)
        kind = choices.pick(tuple(answers))
        prompt = choices.pick(prompts.HEARD[kind])
        return item("audio_qa", split, index, [audio(path), text(prompt)], answers[kind], {"question": kind})

    def spoken_image_qa(self, split: str, index: int) -> Row:
        """A picture and a spoken question about it."""
        number, turn = self.picture(split, index)
        choices = self.choices(split, "spoken_image_qa", (number, turn))
        while self.pictures.digit(split, number) is not None:
            number = (number + 1) % picture_counts(self.spec)[split]
        scene = self.pictures.scene(split, number)[0]
        while True:
            question = self.draw_question(choices, scene, prompts.SPOKEN_SHARES)
            words = question.text(PHRASES[question.type][0])
            if content_split(self.spec.seed, "speech", normalise(words)) == "train":
                break
        path = self.ask_aloud(words, seen_speakers(self.spec), "train", choices.index(VOICES_A_QUESTION))
        parts = [image(f"../pictures/{picture_path(split, number)}"), audio(path)]
        meta = {"question": question.type, "reference": question.reference, "spoken": normalise(words)}
        return item("spoken_image_qa", split, index, parts, question.answer, meta)

    def ask_aloud(self, words: str, speakers: list[int], pool: str, turn: int) -> str:
        """The recording of a question by one of `speakers` (another for each `turn`), made where the pool does not
        hold it; its relative path."""
        sentence = normalise(words)
        bits = digest(self.spec.seed, "question voice", sentence)
        speaker = speakers[(bits + turn) % len(speakers)]
        path = f"audio/{pool}/{bits % 64:02d}/{bits:016x}-{speaker}.flac"
        if not (self.folder / path).is_file():
            temporary = self.folder / f"{path}.{os.getpid()}"
            say(sentence, "sentence", voice_of(speaker), temporary)
            temporary.replace(self.folder / path)
        return path

    def tts(self, split: str, index: int) -> Row:
        """A sentence to say; the narrator's recording of it is named where there is one."""
        counts = speech_counts(self.spec)
        stream = "narrator" if split == "train" else split
        number = index % counts[stream] if split == "train" else 2 * index % (counts[stream] // 2 * 2)
        kind, sentence, _ = self.speech.utterance(stream, number)
        spoken = {"type": "speech", "text": sentence, "audio": f"../speech/{speech_path(stream, number)}"}
        meta = {"question": "tts", "kind": kind}
        return item("tts", split, index, [text(prompts.SPEAK.format(text=sentence))], sentence, meta, spoken)
