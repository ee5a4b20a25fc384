"""Instructions of training and validation: items of seven tasks over the pictures and utterances of their split.

Item j of a task about pictures asks about picture j mod (number of pictures), in round j // (number of pictures), and
likewise for speech: what is asked of a picture depends on its index and the round alone. Every row is
{"id", "split", "task", "messages", "answer", "meta": {"question", ..}}; paths are relative to the folder of
instructions.
"""

import os
from functools import cached_property
from pathlib import Path

from datamodules.world import prompts
from datamodules.world.arithmetic import sum_question
from datamodules.world.captions import describe, object_records
from datamodules.world.files import Row
from datamodules.world.lexicon import COLOURS, DIGITS, SHAPES
from datamodules.world.pictures import PictureWorld, picture_counts, picture_path
from datamodules.world.questions import Question, candidates, draw_question, keep_shares
from datamodules.world.rng import Choices, content_split, digest, item_rng
from datamodules.world.scene import MOST_OBJECTS, Scene
from datamodules.world.sentences import normalise
from datamodules.world.spec import WorldSpec, speech_counts
from datamodules.world.speech import SpeechWorld, say, speakers_of, speech_path, voice_of
from datamodules.world.stories import draw_story
from datamodules.world.text import TextWorld
from datamodules.world.wording import Use

Item = dict[str, str]
VOICES_PER_QUESTION = 7  # in training; a test takes another of the seen voices
STREAMS = {"test_iid": "test"}  # split of instructions -> split of speech, where they differ


def item(type_: str, content: str) -> Item:
    """An item of a message: "text", or the path of an "image" or "audio"."""
    return {"type": type_, type_: content}


def row_of(
    task: str, split: str, index: object, user: list[Item], answer: str, meta: Row, spoken: Item | None = None
) -> Row:
    """A row of one question and its answer (or of one sentence to be spoken)."""
    return {
        "id": f"{task}-{split}-{index}", "split": split, "task": task,
        "messages": [{"role": "user", "content": user}, {"role": "assistant", "content": [spoken or item("text", answer)]}],
        "answer": answer, "meta": meta,
    }  # fmt: skip


def heard(sentence: str) -> dict[str, str]:
    """{"heard_colour": "red", ..} for every list of words of which the sentence has exactly one."""
    found = {}
    for question, names in (("heard_colour", COLOURS), ("heard_shape", SHAPES)):
        named = [word for word in sentence.split() if word in names]
        if len(named) == 1:
            found[question] = named[0]
    return found


class Instructions:
    """The instructions of one world for train and val: a method for each task.

    `folder` is that of the instructions, which gets their recordings.
    """

    def __init__(self, spec: WorldSpec, folder: Path):
        self.spec = spec
        self.folder = folder
        self.pictures = PictureWorld(spec)
        self.speech = SpeechWorld(spec)
        self.texts = TextWorld(spec)
        self.wording = self.texts.wording
        self.shares = keep_shares(spec.rotation, spec.held_out)

    def rows(self, split: str, task: str, start: int, stop: int) -> list[Row]:
        """The items start..stop of a task, and their media as files."""
        return [getattr(self, task)(split, index) for index in range(start, stop)]

    def choices(self, split: str, task: str, index: object) -> Choices:
        """The generator of an item."""
        return Choices(item_rng(self.spec.seed, split, f"instruction {task}", index))

    def text_qa(self, split: str, index: int) -> Row:
        """A trained fact, sum or story."""
        choices = self.choices(split, "text_qa", index)
        question_type = choices.weighted(tuple(prompts.TEXT_SHARES), tuple(prompts.TEXT_SHARES.values()))
        if question_type == "fact":
            question, answer = self.texts.facts.question(choices, "instruction")
        elif question_type == "arithmetic":
            numbers, words = self.texts.arithmetic.draw(choices), choices.pick((False, True))
            question, answer = sum_question(choices, self.wording, numbers, words=words, use="instruction")
        else:
            question, answer = self.story(choices, split)
        return row_of("text_qa", split, index, [item("text", question)], answer, {"question": question_type})

    def story(self, choices: Choices, split: str) -> tuple[str, str]:
        """A story of the split with its question, and the answer."""
        while True:
            story, [(question, answer)] = draw_story(choices, self.wording, level=self.spec.level, use="instruction")
            if content_split(self.spec.seed, "instruction story", story + question) == split:
                return f"{story} {question}", answer

    def picture(self, split: str, index: int) -> tuple[int, int]:
        """(picture, round) of item `index` about pictures."""
        round_, number = divmod(index, picture_counts(self.spec)[split])
        return number, round_

    def draw_question(self, choices: Choices, scene: Scene, shares: dict[str, float], *, all_kept: float) -> Question:
        """A balanced question about a scene, its type by `shares`; of colour, shape or place where it answers none such,
        and for all but `all_kept` of those for the number of all objects, which is learnt at once."""
        question_type = choices.weighted(tuple(shares), tuple(shares.values()))
        if candidates(scene, question_type):
            question = draw_question(choices, scene, question_type, self.shares)
            if question.reference != "all" or choices.rng.random() < all_kept:
                return question
        # not any type: else scenes without relations would be counted more often
        others = [other for other in ("colour", "shape", "where") if candidates(scene, other)]
        return draw_question(choices, scene, choices.pick(others), self.shares)

    def image_qa(self, split: str, index: int) -> Row:
        """A question about a picture."""
        number, round_ = self.picture(split, index)
        choices = self.choices(split, "image_qa", (number, round_))
        digit = self.pictures.digit(split, number)
        if digit is not None:
            words, answer = self.wording.ask(choices, "digit", "instruction"), DIGITS[digit[0]]
            meta = {"question": "digit", "reference": "all"}
        else:
            scene = self.pictures.scene(split, number)[0]
            # No typed question counts all of five objects: those of test_count do.
            kept = prompts.COUNT_ALL_KEPT if len(scene) <= MOST_OBJECTS else 0.0
            question = self.draw_question(choices, scene, prompts.QUESTION_SHARES, all_kept=kept)
            words, answer = self.wording.ask(choices, question.type, "instruction", **question.slots), question.answer
            meta = {"question": question.type, "reference": question.reference, "canonical": question.text()}
        user = [item("image", f"../pictures/{picture_path(split, number)}"), item("text", words)]
        return row_of("image_qa", split, index, user, answer, meta)

    def caption(self, split: str, index: int) -> Row:
        """The description of a picture; test_para asks for it in other words."""
        number, round_ = self.picture(split, index)
        choices = self.choices(split, "caption", index if split.startswith("test") else (number, round_))
        use: Use = "held_out" if split == "test_para" else "instruction"
        prompt = self.wording.ask(choices, "caption", use)
        digit = self.pictures.digit(split, number)
        if digit is not None:
            answer, objects = f"the digit {DIGITS[digit[0]]} in {COLOURS[digit[1]]}", []
        else:
            scene = self.pictures.scene(split, number)[0]
            answer, objects = describe(scene), object_records(scene)
        user = [item("image", f"../pictures/{picture_path(split, number)}"), item("text", prompt)]
        return row_of("caption", split, index, user, answer, {"question": "caption", "objects": objects})

    def utterance(self, split: str, index: int) -> tuple[str, str, str]:
        """(path, sentence, kind) of utterance `index` of a split; train's narrator stream follows its first stream."""
        counts = speech_counts(self.spec)
        stream = STREAMS.get(split, split)
        if split == "train":
            index %= counts["train"] + counts["narrator"]
            if index >= counts["train"]:
                stream, index = "narrator", index - counts["train"]
        kind, sentence, _ = self.speech.utterance(stream, index % counts[stream])
        return f"../speech/{speech_path(stream, index % counts[stream])}", sentence, kind

    def asr(self, split: str, index: int) -> Row:
        """A recording and its transcript."""
        path, sentence, kind = self.utterance(split, index)
        request = self.wording.ask(self.choices(split, "asr", index), "asr", "instruction")
        user = [item("audio", path), item("text", request)]
        return row_of("asr", split, index, user, sentence, {"question": "asr", "kind": kind})

    @cached_property
    def telling(self) -> dict[str, list[tuple[str, dict[str, str]]]]:
        """By split, the recordings of which something can be asked: (path, what `heard` found)."""
        counts = speech_counts(self.spec)
        found = {}
        for split, number in {"train": counts["train"] + counts["narrator"], "val": counts["val"]}.items():
            utterances = [self.utterance(split, index) for index in range(number)]
            found[split] = [(path, heard(sentence)) for path, sentence, _ in utterances if heard(sentence)]
        return found

    def audio_qa(self, split: str, index: int) -> Row:
        """A recording and the one colour or shape that it names."""
        pool = self.telling[split]
        path, answers = pool[index % len(pool)]
        choices = self.choices(split, "audio_qa", index)
        question_type = choices.pick(tuple(answers))
        user = [item("audio", path), item("text", self.wording.ask(choices, question_type, "instruction"))]
        return row_of("audio_qa", split, index, user, answers[question_type], {"question": question_type})

    def spoken_image_qa(self, split: str, index: int) -> Row:
        """A picture and a spoken question about it."""
        number, round_ = self.picture(split, index)
        choices = self.choices(split, "spoken_image_qa", (number, round_))
        while self.pictures.digit(split, number) is not None:
            number = (number + 1) % picture_counts(self.spec)[split]
        scene = self.pictures.scene(split, number)[0]
        question = self.draw_question(choices, scene, prompts.SPOKEN_SHARES, all_kept=prompts.SPOKEN_COUNT_ALL_KEPT)
        turn = choices.index(VOICES_PER_QUESTION)
        words = self.spoken_words(question, turn)
        path = self.ask_aloud(words, "train", turn)
        user = [item("image", f"../pictures/{picture_path(split, number)}"), item("audio", path)]
        meta = {"question": question.type, "reference": question.reference, "spoken": words}
        return row_of("spoken_image_qa", split, index, user, question.answer, meta)

    def spoken_words(self, question: Question, turn: int) -> str:
        """A question as training says it: each of VOICES_PER_QUESTION voices in a wording of its own, one that no test of
        speech holds."""
        choices = Choices(item_rng(self.spec.seed, "train", "spoken wording", f"{question.text()} {turn}"))
        while True:
            words = normalise(question.text(self.wording.form(choices, question.type, "spoken")))
            if content_split(self.spec.seed, "speech", words) == "train":
                return words

    def ask_aloud(self, words: str, split: str, turn: int) -> str:
        """The recording of a normalised question by a voice of the split (another for each `turn`), made where it is not
        there; its relative path."""
        bits = digest(self.spec.seed, "question voice", words)
        speakers = speakers_of(self.spec, split)
        speaker = speakers[(bits + turn) % len(speakers)]
        path = f"audio/{split}/{bits % 64:02d}/{bits:016x}-{speaker}.flac"
        if not (self.folder / path).is_file():
            temporary = self.folder / f"{path}.{os.getpid()}"
            say(words, voice_of(speaker), temporary)
            temporary.replace(self.folder / path)
        return path

    def tts(self, split: str, index: int) -> Row:
        """A sentence to say, and the narrator's recording of it."""
        stream = "narrator" if split == "train" else STREAMS.get(split, split)
        count = speech_counts(self.spec)[stream]
        number = (
            index % count if split == "train" else 2 * index % (count // 2 * 2)
        )  # every other one is the narrator's
        kind, sentence, _ = self.speech.utterance(stream, number)
        spoken = {"type": "speech", "text": sentence, "audio": f"../speech/{speech_path(stream, number)}"}
        request = self.wording.form(self.choices(split, "tts", index), "say", "instruction")
        user = [item("text", request.format(a=sentence))]
        return row_of("tts", split, index, user, sentence, {"question": "tts", "kind": kind}, spoken)
