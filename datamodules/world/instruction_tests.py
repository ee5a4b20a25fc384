"""Instructions of the test splits.

test_iid: questions as in training over scenes of the test hash, in complementary pairs; test_comp: about held-out
pairs; test_count: five objects; test_para: phrases that training lacks; test_voice: held-out voices. Spoken questions
repeat typed ones (meta.typed names the row), so that the two scores compare.
"""

from functools import lru_cache
from pathlib import Path

from datamodules.world import prompts
from datamodules.world.arithmetic import expression, value_text
from datamodules.world.captions import describe, object_records
from datamodules.world.complements import Asked, Complements
from datamodules.world.draw import draw_picture
from datamodules.world.files import Row, save_image
from datamodules.world.instructions import VOICES_A_QUESTION, Instructions, audio, heard, image, item, text
from datamodules.world.pictures import picture_path
from datamodules.world.questions import HELD_OUT_PHRASES, PHRASES, TYPES
from datamodules.world.rng import Choices, content_split, item_rng
from datamodules.world.sentences import normalise
from datamodules.world.spec import WorldSpec
from datamodules.world.speech import HELD_OUT, say, seen_speakers, speech_path, voice_of
from datamodules.world.text import SUM_PHRASES


class InstructionTests(Instructions):
    """The test items of one world; `folder` is that of the instructions, which gets their pictures and recordings."""

    def __init__(self, spec: WorldSpec, folder: Path):
        super().__init__(spec, folder)
        self.complements = Complements(spec)

    def ask(self, split: str, kind: str, index: int) -> Row:
        """Question `index` of a type; 2j and 2j + 1 are a pair. Its picture is drawn."""
        asked, complementary = self.complements.pair(split, kind, index // 2)
        one: Asked = asked[index % 2]
        phrase = self._phrase(split, kind, index // 2)
        path = f"images/{split}/{kind}/{index:05d}.png"
        rng = item_rng(self.spec.seed, split, f"question picture {kind}", index)
        save_image(draw_picture(one.scene, rng, size=self.spec.image_size), self.folder / path)
        question = one.question
        meta = {"question": kind, "reference": question.reference, "objects": object_records(one.scene),
                "pair": f"{split}-{kind}-{index // 2}" if complementary else None}  # fmt: skip
        parts = [image(path), text(question.text(phrase))]
        return item("image_qa", split, f"{kind}-{index}", parts, question.answer, meta)

    def _phrase(self, split: str, kind: str, pair: int) -> str:
        if split == "test_para":
            return HELD_OUT_PHRASES[kind]
        return self.choices(split, f"phrase {kind}", pair).pick(PHRASES[kind])

    def image_questions(self, split: str, start: int, stop: int) -> list[Row]:
        """The pairs start..stop of every type."""
        return [self.ask(split, kind, index) for kind in TYPES for index in range(2 * start, 2 * stop)]

    def spoken_questions(self, split: str, start: int, stop: int) -> list[Row]:
        """The typed questions start..stop of every type in test_iid, spoken by seen or (test_voice) held-out voices."""
        speakers = list(HELD_OUT) if split == "test_voice" else seen_speakers(self.spec)
        rows = []
        for kind in TYPES:
            for index in range(start, stop):
                asked = self.complements.pair("test_iid", kind, index // 2)[0][index % 2]
                words = asked.question.text(PHRASES[kind][0])
                recording = self.ask_aloud(words, speakers, split, VOICES_A_QUESTION)
                parts = [image(f"images/test_iid/{kind}/{index:05d}.png"), audio(recording)]
                meta = {"question": kind, "reference": asked.question.reference, "spoken": normalise(words),
                        "typed": f"image_qa-test_iid-{kind}-{index}"}  # fmt: skip
                rows.append(item("spoken_image_qa", split, f"{kind}-{index}", parts, asked.question.answer, meta))
        return rows

    def texts_of(self, split: str, start: int, stop: int) -> list[Row]:
        """Facts that training asks about, held-out sums, new stories: start..stop of each."""
        rows = []
        facts = self.texts.facts.test_questions("test", asked=True, count=stop)
        sums = self.texts.arithmetic.test_sums("test", kind="arithmetic", count=stop)
        for index in range(start, stop):
            choices = self.choices(split, "text_qa", index)
            found = [("fact", *facts[index])] if index < len(facts) else []
            if index < len(sums):
                words = choices.pick((False, True))
                question = choices.pick(SUM_PHRASES).format(sum=expression(sums[index], words=words))
                found.append(("arithmetic", question, value_text(sums[index], words=words)))
            found.append(("story", *self._story(choices, "test")))
            rows += [item("text_qa", split, f"{kind}-{index}", [text(question)], answer, {"question": kind})
                     for kind, question, answer in found]  # fmt: skip
        return rows

    def captions_of(self, split: str, start: int, stop: int) -> list[Row]:
        """Descriptions of the split's own pictures; test_para asks for them in other words."""
        rows = []
        for index in range(start, stop):
            scene = self.pictures.scene(split, index)[0]
            prompt = self.choices(split, "caption", index).pick(prompts.CAPTION)
            if split == "test_para":
                prompt = prompts.CAPTION_HELD_OUT
            parts = [image(f"../pictures/{picture_path(split, index)}"), text(prompt)]
            meta = {"question": "caption", "objects": object_records(scene)}
            rows.append(item("caption", split, index, parts, describe(scene), meta))
        return rows

    def transcripts(self, split: str, start: int, stop: int) -> list[Row]:
        """Recordings of the speech split test (or test_voice) and their transcripts."""
        stream = "test_voice" if split == "test_voice" else "test"
        rows = []
        for index in range(start, stop):
            kind, sentence, _ = self.speech.utterance(stream, index)
            prompt = self.choices(split, "asr", index).pick(prompts.TRANSCRIBE)
            parts = [audio(f"../speech/{speech_path(stream, index)}"), text(prompt)]
            rows.append(item("asr", split, index, parts, sentence, {"question": "asr", "kind": kind}))
        return rows

    def hearing(self, split: str, start: int, stop: int) -> list[Row]:
        """Own recordings of sentences that name one colour or one shape, and which."""
        speakers = list(HELD_OUT) if split == "test_voice" else seen_speakers(self.spec)
        rows = []
        for index in range(start, stop):
            choices = self.choices(split, "audio_qa", index)
            kind = choices.pick(tuple(prompts.HEARD))
            sentence = self._telling(choices, kind)
            speaker = speakers[choices.rng.randrange(len(speakers))]
            path = f"audio/{split}/heard/{index:05d}.flac"
            say(sentence, "sentence", voice_of(speaker, choices.rng), self.folder / path)
            parts = [audio(path), text(choices.pick(prompts.HEARD[kind]))]
            meta = {"question": kind, "spoken": sentence, "speaker": speaker}
            rows.append(item("audio_qa", split, index, parts, heard(sentence)[kind], meta))
        return rows

    def _telling(self, choices: Choices, kind: str) -> str:
        while True:
            sentence = self.speech.sentences.sentence(choices)
            if kind in heard(sentence) and content_split(self.spec.seed, "speech", sentence) == "test":
                return sentence

    def speaking(self, split: str, start: int, stop: int) -> list[Row]:
        """Held-out sentences to say: the narrator's of the speech split test, every other one."""
        rows = []
        for number in range(start, stop):
            _, sentence, _ = self.speech.utterance("test", 2 * number)
            spoken = {"type": "speech", "text": sentence, "audio": f"../speech/{speech_path('test', 2 * number)}"}
            prompt = [text(prompts.SPEAK.format(text=sentence))]
            rows.append(item("tts", split, number, prompt, sentence, {"question": "tts", "kind": "sentence"}, spoken))
        return rows


@lru_cache(maxsize=1)
def _world(spec: WorldSpec, folder: Path) -> InstructionTests:
    """Kept from job to job of a process: it lists all recordings once."""
    return InstructionTests(spec, folder)


def write_instructions(spec: WorldSpec, folder: Path, split: str, task: str, start: int, stop: int) -> list[Row]:
    """The items start..stop of a task of a split, with the pictures and recordings that they need, under `folder`."""
    world = _world(spec, folder)
    if split in ("train", "val"):
        return [world.tasks[task](split, index) for index in range(start, stop)]
    writers = {"image_qa": world.image_questions, "spoken_image_qa": world.spoken_questions, "text_qa": world.texts_of,
               "caption": world.captions_of, "asr": world.transcripts, "audio_qa": world.hearing,
               "tts": world.speaking}  # fmt: skip
    return writers[task](split, start, stop)
