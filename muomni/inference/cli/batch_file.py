"""`batch=FILE.jsonl out=FILE.jsonl`: a request a line, answers a line each in the same order, decoded in batches.

A line of requests has `text`, `image` and `audio` (a file or a list of files, relative to the batch file), `system_prompt`,
`messages`, and an `id` of any type that comes back. A line of answers has `line`, `id`, and `text`, `finish_reason`,
`prompt_tokens`, `completion_tokens`, or `error` with `message` and `param`.

Answers that `out` holds already are kept, so the same command continues an interrupted batch; a half-written last line is
written again. Batches begin at multiples of their size whether resumed or not: the seeds of a batch's rows depend on its rows.
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from muomni.inference.answer import Answer
from muomni.inference.decoding.options import GenerationOptions
from muomni.inference.engine import Engine
from muomni.inference.errors import InvalidOption
from muomni.inference.prompt import Request, as_list
from muomni.inference.sources import Source

KEYS = ("id", "text", "image", "audio", "system_prompt", "messages")

Line = tuple[int, str]


class BatchFile:
    """Requests of one file, answered into another.

    Args:
        options, system_prompt, truncate: of every request. size: requests that are decoded at once.
    """

    def __init__(
        self, engine: Engine, source: Path, *, options: GenerationOptions, system_prompt: str, truncate: bool, size: int
    ) -> None:
        self.engine, self.source, self.options, self.size = engine, source, options, size
        self.system_prompt, self.truncate = system_prompt, truncate
        self.failed = 0

    def answer_into(self, out: Path) -> Iterator[tuple[int, int]]:
        """Write the answers; yields (answered, requests) after each batch. Raises InvalidOption for files that do not belong to
        each other, and OSError."""
        lines = self._lines()
        kept = answered_lines(out, [number for number, _ in lines])
        with out.open("r+b" if out.exists() else "wb") as file:
            file.seek(kept.bytes)
            file.truncate()
            for begin in range(kept.count - kept.count % self.size, len(lines), self.size):
                batch = lines[begin : begin + self.size]
                rows = self._answers(batch)[max(0, kept.count - begin) :]
                self.failed += sum("error" in row for row in rows)
                file.write("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode())
                file.flush()
                os.fsync(file.fileno())
                yield begin + len(batch), len(lines)

    def _lines(self) -> list[Line]:
        """The numbers and texts of the lines that are not blank."""
        text = self.source.read_bytes().decode(errors="replace").removeprefix("\ufeff")
        lines = [(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
        if not lines:
            raise InvalidOption(f"batch={self.source}: the file holds no requests, a JSON object a line", param="batch")
        return lines

    def _answers(self, batch: list[Line]) -> list[dict[str, Any]]:
        """The rows of answers to a batch."""
        rows: list[dict[str, Any]] = []
        requests: list[Request] = []
        asked: list[dict[str, Any]] = []  # the rows of `requests`
        for number, line in batch:
            row: dict[str, Any] = {"line": number}
            rows.append(row)
            try:
                record = parse(line)
                row |= {"id": record["id"]} if "id" in record else {}
                requests.append(self._request(record))
                asked.append(row)
            except (ValueError, OSError) as error:
                row["error"] = self._described(error, number)
        for row, result in zip(asked, self._decode(requests), strict=True):
            if isinstance(result, Exception):
                row["error"] = self._described(result, row["line"])
            else:
                row |= {
                    "text": result.text,
                    "finish_reason": result.finish_reason,
                    "prompt_tokens": result.prompt_tokens,
                    "completion_tokens": result.completion_tokens,
                }
        return rows

    def _decode(self, requests: list[Request]) -> list[Answer | Exception]:
        """Answers to requests; if they cannot be read together, one by one, with the errors of those that cannot be read."""
        try:
            return list(self.engine.answer_batch(requests, generation=self.options))
        except (ValueError, OSError) as error:
            if len(requests) == 1:
                return [error]
        return [result for request in requests for result in self._decode([request])]

    def _request(self, record: dict[str, Any]) -> Request:
        images, audios = (
            [self._media(path, name) for path in as_list(record.get(name))] for name in ("image", "audio")
        )
        messages = record.get("messages") or ()
        return Request(
            text=record.get("text", ""),
            images=images,
            audios=audios,
            system_prompt=record.get("system_prompt", "" if messages else self.system_prompt),
            messages=messages,
            truncate=self.truncate,
        )

    def _media(self, path: Any, name: str) -> Source:
        if not isinstance(path, str) or not path:
            raise InvalidOption(f"{name}: the name of a file, or a list of them, is needed", param=name)
        return self.source.parent / Path(path).expanduser()

    def _described(self, error: Exception, number: int) -> dict[str, Any]:
        return {"message": f"{self.source}, line {number}: {error}", "param": getattr(error, "param", None)}


def parse(line: str) -> dict[str, Any]:
    """A line -> its object. Raises InvalidOption for one that is none, and for keys that would be ignored."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InvalidOption(f"no JSON: {error}") from error
    if not isinstance(record, dict):
        raise InvalidOption("a JSON object is needed")
    if unknown := [key for key in record if key not in KEYS]:
        raise InvalidOption(f"unknown key {unknown[0][:40]!r}; known: {', '.join(KEYS)}", param=unknown[0][:40])
    return record


class Kept:
    """Answers that a file holds: how many, and of how many bytes."""

    def __init__(self) -> None:
        self.count = self.bytes = 0


def answered_lines(out: Path, numbers: list[int]) -> Kept:
    """The whole lines at the beginning of `out` that answer the requests with these line numbers, in order. Raises InvalidOption
    for a file of anything else, which is not touched."""
    kept = Kept()
    if not out.exists():
        return kept
    for line in out.read_bytes().splitlines(keepends=True):
        try:
            number = json.loads(line)["line"]
        except (ValueError, TypeError, KeyError, RecursionError):
            number = None
        if number is None and not line.endswith(b"\n"):  # half-written
            break
        if kept.count == len(numbers) or number != numbers[kept.count]:
            raise InvalidOption(
                f"out={out}: line {kept.count + 1} is no answer to these requests: name a new file", param="out"
            )
        if not line.endswith(b"\n"):
            break
        kept.count += 1
        kept.bytes += len(line)
    return kept
