"""The requests of a load, each with the answer of its single run: by the engine, in this process, one after the other.

What all routes take is there: texts, images, recordings; greedy and sampled; whole and streamed; JSON by a schema; speech. Images
are drawn and recordings spoken by the model itself, so that nothing is needed but the export.
"""

import base64
import io
import queue
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import soundfile
from PIL import Image, ImageDraw
from torch import Tensor

from benchmarks.serving.client import Call, Value
from muomni.inference.answer import Answer
from muomni.inference.decoding.options import preset
from muomni.inference.embedding import Embedder
from muomni.inference.engine import Engine
from muomni.inference.prompt import Request
from muomni.inference.scheduling.json_constraint import JsonGrammar
from muomni.inference.scheduling.scheduler import Scheduler
from muomni.serving.audio_format import make_encoder
from muomni.serving.spoken import RATE

QUESTIONS = ("who is {}?", "where does {} live?", "tell me about {}", "what does {} like?", "is {} a teacher?")
SUBJECTS = ("emma", "the red circle", "noah", "the blue square", "mia", "the green star", "liam", "the yellow triangle")
SENTENCES = ("the red circle is left", "two blue squares", "what colour is the star", "a green triangle", "who is emma")
SCHEMA = {
    "type": "object", "properties": {"yes": {"type": "boolean"}, "count": {"enum": [1, 2, 3]}}, "required": ["yes", "count"],
    "additionalProperties": False,
}  # fmt: skip
SAMPLED = {"temperature": 0.8, "top_p": 0.9}
COLOURS = ("red", "green", "blue", "yellow")


@dataclass(frozen=True, kw_only=True, eq=False)
class Case:
    """A request and the answer of its single run. group: of the report. weight: how often it is sent, relative to others."""

    group: str
    weight: float
    call: Call
    expected: Value


class Mixture:
    """Makes cases from a seed.

    Args:
        embedder: None: no embeddings. tokens: most of an answer. distinct: cases of each group. seconds: of a recording, at most.
    """

    def __init__(
        self,
        engine: Engine,
        embedder: Embedder | None,
        *,
        model: str,
        tokens: int,
        distinct: int,
        seed: int,
        seconds: float = 4.0,
    ) -> None:
        self.engine, self.embedder, self.model, self.tokens, self.distinct = engine, embedder, model, tokens, distinct
        self.random, self.seconds = random.Random(seed), seconds
        self.scheduler = Scheduler(engine, slots=1)
        self.grammar: JsonGrammar | None = None

    def cases(self) -> list[Case]:
        """All that the export can answer."""
        most, few = self.distinct, max(1, self.distinct // 2)  # speech takes long to compute
        groups = [(self.chat, 6.0, most), (self.completion, 2.0, most), (self.json_answer, 1.0, few)]
        if self.engine.media.image is not None:
            groups.append((self.image, 2.0, most))
        if self.engine.speaker is not None:
            groups += [(self.speech, 1.0, few), (self.spoken_chat, 0.5, few)]
            if self.engine.media.hearing is not None:
                groups += [(self.recording, 1.5, few), (self.transcription, 1.0, few)]
        if self.embedder is not None:
            groups.append((self.embedding, 2.0, most))
        made = []
        for make, weight, count in groups:
            for name, call, expected in (case for index in range(count) for case in make(index)):
                group = name if name == call.kind else f"{name}: {call.kind}"
                made.append(Case(group=group, weight=weight / count, call=call, expected=expected))
        self.scheduler.close(grace=0)
        return made

    # Each method: the index -> (group, request, expected answer).

    def chat(self, index: int) -> Iterator[tuple[str, Call, Value]]:
        """Text in, text out."""
        yield self._chat("text", self._question(), index)

    def image(self, index: int) -> Iterator[tuple[str, Call, Value]]:
        """A picture and a question."""
        raw = io.BytesIO()
        self._picture().save(raw, "PNG")
        url = f"data:image/png;base64,{base64.b64encode(raw.getvalue()).decode()}"
        text = self.random.choice(("how many objects are there?", "describe the picture", "what is on the left?"))
        content = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": text}]
        own = [{"type": "image", "image": raw.getvalue()}, {"type": "text", "text": text}]
        yield self._chat("image", content, index, own)

    def recording(self, index: int) -> Iterator[tuple[str, Call, Value]]:
        """A spoken question."""
        raw = self._recording()
        data = base64.b64encode(raw).decode()
        content = [{"type": "input_audio", "input_audio": {"data": data, "format": "wav"}}]
        yield self._chat("audio", content, index, [{"type": "audio", "audio": raw}])

    def json_answer(self, index: int) -> Iterator[tuple[str, Call, Value]]:
        """JSON by a schema; the engine has none, so the single run is one of a scheduler of its own."""
        question = self._question()
        form = {"type": "json_schema", "json_schema": {"name": "answer", "schema": SCHEMA}}
        body = self._body(question, max_completion_tokens=64, temperature=0, response_format=form)
        if self.grammar is None:
            self.grammar = JsonGrammar(self.engine.require_prompter().tokenizer)
        answers: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.scheduler.submit(
            Request(messages=body["messages"]),
            preset("greedy", max_new_tokens=64),
            emit=answers.put,
            constraint=self.grammar.constraint(SCHEMA),
        )
        while not isinstance(answer := answers.get(), Answer):
            if isinstance(answer, Exception):
                raise answer
        yield "JSON", Call(kind="chat", path="/v1/chat/completions", body=body), answer.text

    def completion(self, index: int) -> Iterator[tuple[str, Call, Value]]:
        """A text is continued."""
        prompt, chosen = self._question(), self._sampling(index)
        body = {"model": self.model, "prompt": prompt, "max_tokens": self.tokens, **chosen}
        options = preset("greedy", max_new_tokens=self.tokens, **chosen)
        (answer,) = self.engine.answer_batch([Request(text=prompt, format="plain")], generation=options)
        kind = "completion" if index % 2 else "completion stream"
        stream = {} if index % 2 else {"stream": True}
        yield kind, Call(kind=kind, path="/v1/completions", body=body | stream), answer.text

    def speech(self, index: int) -> Iterator[tuple[str, Call, Value]]:
        """A text is spoken."""
        text = f"{self.random.choice(SENTENCES)} {self.random.choice(SENTENCES)}"
        form = ("pcm", "wav", "flac")[index % 3]
        body = {"model": self.model, "input": text, "voice": "0", "response_format": form}
        yield "speech", Call(kind="speech", path="/v1/audio/speech", body=body), self._encoded(text, form)

    def spoken_chat(self, index: int) -> Iterator[tuple[str, Call, Value]]:
        """An answer in text and speech; not one of which nothing can be spoken."""
        for _ in range(20):
            question = self._question()
            text = self.engine.answer_batch(
                [Request(messages=[{"role": "user", "content": question}])],
                generation=preset("greedy", max_new_tokens=self.tokens),
            )[0].text
            if sum(map(str.isalpha, text)) > 3:
                break
        else:
            return
        audio = {"voice": "0", "format": "pcm16"}
        body = self._body(
            question, stream=True, max_completion_tokens=self.tokens, modalities=["text", "audio"], audio=audio
        )
        expected = text.encode() + b"\0" + self._encoded(text, "pcm")
        yield "spoken stream", Call(kind="spoken stream", path="/v1/chat/completions", body=body), expected

    def transcription(self, index: int) -> Iterator[tuple[str, Call, Value]]:
        """A recording is written down."""
        raw = self._recording()
        call = Call(kind="transcription", path="/v1/audio/transcriptions", body={"model": self.model}, file=raw)
        yield "transcription", call, self.engine.transcribe(raw)

    def embedding(self, index: int) -> Iterator[tuple[str, Call, Value]]:
        """Two texts as vectors, each computed alone."""
        assert self.embedder is not None
        texts = [self.random.choice(SENTENCES), self._question()]
        vectors = [self.embedder.texts([text])[0][0].tolist() for text in texts]
        call = Call(kind="embedding", path="/v1/embeddings", body={"model": self.model, "input": texts})
        yield "embedding", call, vectors

    def _chat(self, group: str, content: Any, index: int, own: Any = None) -> tuple[str, Call, Value]:
        """Half of them streamed, half of them sampled. own: the content as the engine takes it."""
        chosen, streamed = self._sampling(index // 2), index % 2 == 0
        stream = {"stream": True, "stream_options": {"include_usage": True}} if streamed else {}
        body = self._body(content, max_completion_tokens=self.tokens, **chosen, **stream)
        messages = [{"role": "user", "content": content if own is None else own}]
        (answer,) = self.engine.answer_batch(
            [Request(messages=messages)], generation=preset("greedy", max_new_tokens=self.tokens, **chosen)
        )
        kind = "chat stream" if streamed else "chat"
        return group, Call(kind=kind, path="/v1/chat/completions", body=body), answer.text

    def _body(self, content: Any, **fields: Any) -> dict[str, Any]:
        return {"model": self.model, "messages": [{"role": "user", "content": content}]} | fields

    def _sampling(self, index: int) -> dict[str, Any]:
        return {"temperature": 0} if index % 2 == 0 else SAMPLED | {"seed": self.random.randrange(10**6)}

    def _question(self) -> str:
        return self.random.choice(QUESTIONS).format(self.random.choice(SUBJECTS))

    def _picture(self) -> Image.Image:
        picture = Image.new("RGB", (96, 96), "black")
        draw = ImageDraw.Draw(picture)
        for _ in range(self.random.randint(1, 3)):
            x, y, size = (self.random.randint(4, 64) for _ in range(3))
            draw.ellipse((x, y, x + 8 + size // 3, y + 8 + size // 3), fill=self.random.choice(COLOURS))
        return picture

    def _recording(self) -> bytes:
        """A wav file of speech."""
        waveform = self.engine.generate_speech(self.random.choice(SENTENCES)).numpy()
        raw = io.BytesIO()
        waveform = np.clip(waveform[: int(self.seconds * self.engine.speech_rate)], -1, 1)
        soundfile.write(raw, waveform, self.engine.speech_rate, format="WAV", subtype="PCM_16")
        return raw.getvalue()

    def _encoded(self, text: str, form: str) -> bytes:
        """Speech of the engine in a format."""
        encoder = make_encoder(form, self.engine.speech_rate, RATE)
        waveform: Tensor = self.engine.generate_speech(text)
        return encoder.push(waveform) + encoder.close()
