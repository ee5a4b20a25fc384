"""Text documents with their log-probability, and questions for the language model.

A document is of one type and ends right after its last answer or statement. Every choice of the generator shows in the
text (no text arises in two ways), so `logprob` is exact: the entropy floor of a set of documents is -sum(logprob)
divided by the number of predicted tokens, the end token of each document included.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from datamodules.world.arithmetic import Arithmetic, equation, sum_question
from datamodules.world.captions import describe, draw_kind, enumerate_things, relate
from datamodules.world.facts import Facts
from datamodules.world.files import Row, write_rows
from datamodules.world.lexicon import RELATIONS, WORDS
from datamodules.world.questions import TYPES, candidates, draw_any, question_alone
from datamodules.world.rng import Choices, content_split, item_rng
from datamodules.world.scene import MOST_OBJECTS, Pairs, Scene, Thing, draw_pair
from datamodules.world.spec import WorldSpec
from datamodules.world.stories import draw_line, draw_story
from datamodules.world.wording import Wording

#: Saying long rows of words again teaches to copy, which looking up, transcribing and speaking are made of;
#: saying sentences again, to copy also where one could guess how they go on.
DOCUMENT_SHARES = {"fact": 0.17, "arithmetic": 0.29, "story": 0.19, "caption": 0.22, "say": 0.13}
MOST_SAID = 12  # words
#: About a description: a look-up is learnt from their number, and a further one costs a third of a document.
MOST_QUESTIONS = 6
MARKS = re.compile("[?.,:]")
SENTENCE_SHARES = {"fact": 1, "question": 1, "sum": 1, "line": 1, "picture": 2, "caption": 2}  # weights


def ask(question: str) -> str:
    """The prompt of a question: the language model continues it with " answer"."""
    return f"question: {question} answer:"


def with_answers(lines: Iterable[str], questions: Iterable[tuple[str, str]]) -> str:
    """Lines of text, then questions with their answers."""
    return " ".join([*lines, *(f"{ask(question)} {answer}" for question, answer in questions)])


def statements(choices: Choices, state: Callable[[], str], question: Callable[[], tuple[str, str]]) -> str:
    """One to three statements, or none to two of them and a question with its answer."""
    asked = choices.pick((False, True))
    count = choices.pick((0, 1, 2) if asked else (1, 2, 3))
    lines = [f"{state()}." for _ in range(count)]
    return with_answers(lines, [question()] if asked else [])


class TextWorld:
    """The grammar of one world's documents."""

    def __init__(self, spec: WorldSpec):
        self.spec = spec
        self.pairs = Pairs(rotation=spec.rotation, held_out=spec.held_out)
        self.wording = Wording(rotation=spec.wording, canonical=spec.canonical)
        self.facts = Facts(seed=spec.seed, people=spec.people, level=spec.level, wording=self.wording)
        self.arithmetic = Arithmetic(seed=spec.seed, level=spec.level)
        self.writers = {
            "fact": self.fact, "arithmetic": self.sums, "story": self.story, "caption": self.caption, "say": self.say,
        }  # fmt: skip

    def draw(self, choices: Choices) -> tuple[str, str]:
        """(document_type, text) of one document of any split; choices.logprob is then its log-probability."""
        document_type = choices.weighted(tuple(DOCUMENT_SHARES), tuple(DOCUMENT_SHARES.values()))
        return document_type, self.writers[document_type](choices)

    def fact(self, choices: Choices) -> str:
        """Statements about people."""
        return statements(
            choices, lambda: self.facts.statement(choices), lambda: self.facts.question(choices, "document")
        )

    def sums(self, choices: Choices) -> str:
        """Equations, in digits or in words."""
        words, draw = choices.pick((False, True)), self.arithmetic.draw
        return statements(
            choices,
            lambda: equation(draw(choices), words=words),
            lambda: sum_question(choices, self.wording, draw(choices), words=words, use="document"),
        )

    def story(self, choices: Choices) -> str:
        """A story, a question (of two stories in three) or two, and their answers."""
        asked = choices.weighted((1, 2), (2, 1))  # so that an answer most likely ends its document
        story, questions = draw_story(choices, self.wording, level=self.spec.level, use="document", questions=asked)
        return with_answers([story], questions)

    def caption(self, choices: Choices) -> str:
        """A caption, or a description and one to six questions about it in the words of the picture questions."""
        asked = choices.weighted((False, True), (1, 4))
        count = choices.pick(range(1, MOST_OBJECTS + 1))
        kind = "description" if asked else draw_kind(choices, count)
        scene = self.things(choices, count, placed=kind == "description")
        if asked:
            left = {name: candidates(scene, name) for name in TYPES}
            questions = []
            most = min(MOST_QUESTIONS, sum(map(len, left.values())))
            for _ in range(choices.pick(range(1, most + 1))):
                question = draw_any(choices, left)
                left[question.type].remove(question)
                words = self.wording.ask(choices, question.type, "document", **question.slots)
                questions.append((words, question.answer))
            return with_answers([f"{describe(scene)}."], questions)
        if kind == "description":
            return describe(scene)
        if kind == "relation":
            return relate(scene, choices.pick(RELATIONS))
        return enumerate_things(choices, self.wording, scene, "document")

    def things(self, choices: Choices, count: int, *, placed: bool) -> Scene:
        """Things in any order, of trained pairs; with different cells where the caption will say them."""
        things: list[Thing] = []
        for _ in range(count):
            size = choices.pick((0, 1))
            colour, shape = draw_pair(choices, self.pairs)
            taken = [thing.cell for thing in things]
            cell = choices.pick([cell for cell in range(9) if cell not in taken]) if placed else 0
            things.append(Thing(colour, shape, size, cell))
        return tuple(things)

    def say(self, choices: Choices) -> str:
        """Words or a sentence to repeat."""
        if choices.pick((False, True)):
            words = self.sentence(choices)
        else:
            words = " ".join(choices.pick(WORDS) for _ in range(choices.pick(range(1, MOST_SAID + 1))))
        return with_answers([], [(self.wording.form(choices, "say", "document").format(a=words), words)])

    def sentence(self, choices: Choices) -> str:
        """A sentence of the world's grammar as one says it: without marks, numbers in words."""
        return MARKS.sub("", self._sentence(choices))

    def _sentence(self, choices: Choices) -> str:
        """Such a sentence, with marks."""
        source = choices.weighted(tuple(SENTENCE_SHARES), tuple(SENTENCE_SHARES.values()))
        if source == "fact":
            return self.facts.statement(choices)
        if source == "question":
            return self.facts.spoken_question(choices, "document")
        if source == "sum":
            return equation(self.arithmetic.draw(choices), words=True)
        if source == "line":
            return draw_line(choices, self.wording)
        if source == "picture":
            return question_alone(choices, self.wording, self.pairs)
        form = choices.pick(("description", "relation", "list"))
        if form == "relation":
            return relate(self.things(choices, 2, placed=False), choices.pick(RELATIONS))
        scene = self.things(choices, choices.pick((1, 2)), placed=form == "description")
        if form == "description":
            return describe(scene)
        return enumerate_things(choices, self.wording, scene, "document")

    def document(self, split: str, index: int) -> tuple[str, str, float]:
        """(document_type, text, logprob) of document `index`: drawn until its split (`split_of`) is `split`."""
        rng = item_rng(self.spec.seed, split, "document", index)
        while True:
            choices = Choices(rng)
            document_type, text = self.draw(choices)
            if self.split_of(document_type, text) == split:
                return document_type, text, choices.logprob

    def split_of(self, document_type: str, text: str) -> str:
        """The split of a document: of a story by what it tells, whatever is asked of it then; of what is to be said again that
        of the same words in speech, so that no training document says again what a test of speech holds."""
        if document_type == "say":
            return content_split(self.spec.seed, "speech", text.split(" answer: ")[1])
        return content_split(
            self.spec.seed, "document", text.split(" question:")[0] if document_type == "story" else text
        )

    def story_question(self, split: str, index: int) -> tuple[str, str, str]:
        """(story, question, answer) of `split`."""
        rng = item_rng(self.spec.seed, split, "story", index)
        while True:
            story, [(question, answer)] = draw_story(Choices(rng), self.wording, level=self.spec.level, use="document")
            if content_split(self.spec.seed, "document", story) == split:
                return story, question, answer


def write(spec: WorldSpec, folder: Path, split: str) -> list[Row]:
    """Write the manifests of a split; no rows are left to the caller."""
    write_rows(folder / f"{split}.jsonl", documents(spec, split))
    if split != "train":
        write_rows(folder / f"qa_{split}.jsonl", text_questions(spec, split))
    return []


def documents(spec: WorldSpec, split: str) -> Iterator[Row]:
    """The documents of a split: train until `text_bytes` are reached, val and test by number."""
    world = TextWorld(spec)
    size = index = 0
    while size < spec.text_bytes if split == "train" else index < spec.text_eval_documents:
        document_type, text, logprob = world.document(split, index)
        yield {"id": f"text-{split}-{index}", "split": split, "kind": document_type, "text": text,
               "logprob": round(logprob, 6)}  # fmt: skip
        size += len(text) + 1
        index += 1


def text_questions(spec: WorldSpec, split: str) -> Iterator[Row]:
    """Prompts and answers for the language model: {"id", "split", "kind", "prompt", "answer"}, each type in turn."""
    world, count = TextWorld(spec), spec.text_questions
    rows = []
    for question_type, asked in (("fact", True), ("fact_unasked", False)):
        found = world.facts.test_questions(split, asked=asked, count=count)
        rows += [(question_type, ask(question), answer) for question, answer in found]
    for question_type in ("arithmetic", "arithmetic_seen", *(["arithmetic_far"] if spec.level == "hard" else [])):
        for numbers in world.arithmetic.test_sums(split, question_type=question_type, count=count):
            choices = Choices(item_rng(spec.seed, split, "sum wording", f"{question_type} {numbers}"))
            words = choices.pick((False, True))
            question, answer = sum_question(choices, world.wording, numbers, words=words, use="document")
            rows.append((question_type, ask(question), answer))
    for index in range(count):
        story, question, answer = world.story_question(split, index)
        rows.append(("story", f"{story} {ask(question)}", answer))
    for index, (question_type, prompt, answer) in enumerate(rows):
        yield {"id": f"qa-{split}-{index}", "split": split, "kind": question_type, "prompt": prompt, "answer": answer}
