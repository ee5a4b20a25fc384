"""Instructions of the test splits.

test_iid: questions as in training over scenes of the test hash, in complementary pairs; test_comp: about held-out
pairs; test_count: five objects; test_para: wordings that training lacks; test_voice: held-out voices. Spoken questions
repeat typed ones (meta.typed names the row), so that the two scores compare. Captions, transcripts and sentences to say
are those of training, of the test's own pictures and recordings.
"""

from functools import lru_cache
from pathlib import Path

from datamodules.world import prompts
from datamodules.world.arithmetic import sum_question
from datamodules.world.captions import object_records
from datamodules.world.complements import Complements
from datamodules.world.draw import draw_picture
from datamodules.world.files import Row, save_image
from datamodules.world.instructions import VOICES_PER_QUESTION, Instructions, heard, item, row_of
from datamodules.world.questions import TYPES
from datamodules.world.rng import content_split, item_rng
from datamodules.world.sentences import normalise
from datamodules.world.spec import WorldSpec
from datamodules.world.speech import say, speakers_of, voice_of
from datamodules.world.wording import Use


class InstructionTests(Instructions):
    """The test items of one world; `folder` gets their pictures too."""

    def __init__(self, spec: WorldSpec, folder: Path):
        super().__init__(spec, folder)
        self.complements = Complements(spec)

    def rows(self, split: str, task: str, start: int, stop: int) -> list[Row]:
        """The items start..stop of a task; of image_qa the pairs of each type, of text_qa and spoken_image_qa the items of
        each type."""
        if task == "image_qa":
            return [self.typed(split, name, index) for name in TYPES for index in range(2 * start, 2 * stop)]
        if task == "spoken_image_qa":
            return [self.spoken(split, name, index) for name in TYPES for index in range(start, stop)]
        if task == "text_qa":
            return self.texts_of(split, start, stop)
        return super().rows(split, task, start, stop)

    def typed(self, split: str, question_type: str, index: int) -> Row:
        """Question `index` of a type; 2j and 2j + 1 are a pair. Its picture is drawn."""
        pair, complementary = self.complements.pair(split, question_type, index // 2)
        scene, question = pair[index % 2]
        use: Use = "held_out" if split == "test_para" else "instruction"
        choices = self.choices(split, f"phrase {question_type}", index // 2)
        words = self.wording.ask(choices, question_type, use, **question.slots)
        path = f"images/{split}/{question_type}/{index:05d}.png"
        rng = item_rng(self.spec.seed, split, f"question picture {question_type}", index)
        save_image(draw_picture(scene, rng, size=self.spec.image_size), self.folder / path)
        meta = {"question": question_type, "reference": question.reference, "canonical": question.text(),
                "objects": object_records(scene),
                "pair": f"{split}-{question_type}-{index // 2}" if complementary else None}  # fmt: skip
        user = [item("image", path), item("text", words)]
        return row_of("image_qa", split, f"{question_type}-{index}", user, question.answer, meta)

    def spoken(self, split: str, question_type: str, index: int) -> Row:
        """The typed question `index` of a type in test_iid, in spoken wording by a voice of the split."""
        _, question = self.complements.pair("test_iid", question_type, index // 2)[0][index % 2]
        choices = self.choices("test_iid", f"spoken phrase {question_type}", index // 2)
        form = self.wording.form(choices, question_type, "spoken")
        words = normalise(question.text(form))
        recording = self.ask_aloud(words, split, VOICES_PER_QUESTION)
        user = [item("image", f"images/test_iid/{question_type}/{index:05d}.png"), item("audio", recording)]
        meta = {"question": question_type, "reference": question.reference, "spoken": words,
                "typed": f"image_qa-test_iid-{question_type}-{index}"}  # fmt: skip
        return row_of("spoken_image_qa", split, f"{question_type}-{index}", user, question.answer, meta)

    def texts_of(self, split: str, start: int, stop: int) -> list[Row]:
        """Facts that training asks about, held-out sums, new stories: start..stop of each."""
        rows = []
        facts = self.texts.facts.test_questions("test", asked=True, count=stop)
        sums = self.texts.arithmetic.test_sums("test", question_type="arithmetic", count=stop)
        for index in range(start, stop):
            choices = self.choices(split, "text_qa", index)
            found = [("fact", *facts[index])] if index < len(facts) else []
            if index < len(sums):
                words = choices.pick((False, True))
                asked = sum_question(choices, self.wording, sums[index], words=words, use="instruction")
                found.append(("arithmetic", *asked))
            found.append(("story", *self.story(choices, "test")))
            for question_type, question, answer in found:
                name, meta = f"{question_type}-{index}", {"question": question_type}
                rows.append(row_of("text_qa", split, name, [item("text", question)], answer, meta))
        return rows

    def audio_qa(self, split: str, index: int) -> Row:
        """A recording of its own of a sentence that names one colour or one shape, and which."""
        choices = self.choices(split, "audio_qa", index)
        question_type = choices.pick(prompts.HEARD)
        while True:
            sentence = self.speech.sentence(choices)
            if question_type in heard(sentence) and content_split(self.spec.seed, "speech", sentence) == "test":
                break
        speaker = choices.rng.choice(speakers_of(self.spec, split))
        path = f"audio/{split}/heard/{index:05d}.flac"
        say(sentence, voice_of(speaker, choices.rng), self.folder / path)
        user = [item("audio", path), item("text", self.wording.ask(choices, question_type, "instruction"))]
        meta = {"question": question_type, "spoken": sentence, "speaker": speaker}
        return row_of("audio_qa", split, index, user, heard(sentence)[question_type], meta)


@lru_cache(maxsize=2)
def _world(of: type[Instructions], spec: WorldSpec, folder: Path) -> Instructions:
    """Kept from job to job of a process: it lists all recordings once."""
    return of(spec, folder)


def write(spec: WorldSpec, folder: Path, split: str, task: str, start: int, stop: int) -> list[Row]:
    """The items start..stop of a task of a split, with the pictures and recordings that they need, under `folder`."""
    world = _world(InstructionTests if split.startswith("test") else Instructions, spec, folder)
    return world.rows(split, task, start, stop)
