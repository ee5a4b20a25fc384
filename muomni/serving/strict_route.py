"""Requests whose JSON is read strictly: UTF-8, no NaN, no bottomless nesting, no name twice; and whose routes end when their
client goes away."""

import asyncio
import json
import re
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from fastapi import Request, Response
from fastapi.routing import APIRoute
from starlette.concurrency import run_in_threadpool

from muomni.serving.errors import CLIENT_GONE, ApiError

MAX_DEPTH, MAX_VALUES = 64, 20_000  # of a body: more would keep the server busy for seconds
LARGE = 1 << 16  # bytes of a body that is read outside of the event loop
HALF = re.compile("[\ud800-\udfff]")  # of a character of UTF-16: json.loads joins the halves that belong together
T = TypeVar("T")


def read_json(body: bytes) -> Any:
    """A body -> its value. Raises ApiError 400 for anything that is not plain JSON."""

    def no_constant(name: str) -> Any:
        raise ApiError(400, f"the body is not valid JSON: {name} is no number there", code="invalid_json")

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        names = dict(pairs)
        if len(names) != len(pairs):
            twice = next(name for name in names if sum(other == name for other, _ in pairs) > 1)
            raise ApiError(400, f"{twice[:60]}: this field is given twice", param=twice[:60], code="invalid_json")
        return names

    try:
        text = body.decode("utf-8")
        value = json.loads(text, parse_constant=no_constant, object_pairs_hook=unique)
    except UnicodeDecodeError as error:
        raise ApiError(400, f"the body is not valid UTF-8 at byte {error.start}", code="invalid_json") from error
    except RecursionError as error:
        raise ApiError(400, "the body is nested too deeply", code="invalid_json") from error
    except ValueError as error:  # also for numbers of thousands of digits
        raise ApiError(400, f"the body is not valid JSON: {str(error)[:120]}", code="invalid_json") from error
    _check_depth(value)
    if "\\u" in text:
        _check_characters(value)
    return value


def _check_depth(value: Any) -> None:
    """Level by level, without recursion; counts the values, too."""
    level, count = [value], 0
    for _ in range(MAX_DEPTH):
        if (count := count + len(level)) > MAX_VALUES:
            raise ApiError(
                400, f"the body has too many fields and items: at most {MAX_VALUES} are taken", code="too_large"
            )
        level = [
            child
            for each in level
            if isinstance(each, dict | list)
            for child in (each.values() if isinstance(each, dict) else each)
        ]
        if not level:
            return
    raise ApiError(400, f"the body is nested too deeply: at most {MAX_DEPTH} levels", code="invalid_json")


def _check_characters(value: Any) -> None:
    """Raises ApiError naming the field for a text that is no Unicode: nothing could write it into an answer."""
    level: list[tuple[str, Any]] = [("", value)]
    while level:
        below: list[tuple[str, Any]] = []
        for name, each in level:
            if isinstance(each, str) and HALF.search(each):
                raise ApiError(
                    400, f"{name or 'the body'}: half of a character (\\ud800 to \\udfff)", param=name or None
                )
            if isinstance(each, dict):
                if HALF.search("".join(each)):
                    raise ApiError(400, f"{name or 'the body'}: a name with half of a character", param=name or None)
                below += [(f"{name}.{key}" if name else key, child) for key, child in each.items()]
            elif isinstance(each, list):
                below += [(f"{name}[{index}]", child) for index, child in enumerate(each)]
        level = below


class StrictRequest(Request):
    """`json` by `read_json`."""

    async def json(self) -> Any:
        if not hasattr(self, "_json"):
            body = await self.body()
            self._json = read_json(body) if len(body) < LARGE else await run_in_threadpool(read_json, body)
        return self._json


class StrictRoute(APIRoute):
    """Takes one Content-Type and no other: a web page can send text/plain to any server unasked, JSON it cannot."""

    content_type = "application/json"

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handler = super().get_route_handler()

        async def strict(request: Request) -> Response:
            if request.method == "POST":
                given = request.headers.get("content-type", "").partition(";")[0].strip().lower()
                if given != self.content_type:
                    raise ApiError(
                        415, f"Content-Type {given[:60] or 'is missing'}: this route takes {self.content_type}"
                    )
            if (coding := request.headers.get("content-encoding", "identity").strip().lower()) != "identity":
                raise ApiError(415, f"Content-Encoding {coding[:60]}: send the body as it is")
            own = StrictRequest(request.scope, request.receive)
            if request.method == "POST":  # FastAPI would call every error of reading it "error parsing the body"
                await (own.json() if self.content_type == "application/json" else own.body())
            return await handler(own)

        return strict


class FormRoute(StrictRoute):
    """Takes files."""

    content_type = "multipart/form-data"


async def while_connected(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """The result of `work`, which is cancelled when the client goes away. The body must have been read."""
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_disconnect(request))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ApiError(CLIENT_GONE, "the client has gone")
        return task.result()
    finally:
        for each in (task, gone):
            each.cancel()
        await asyncio.gather(task, gone, return_exceptions=True)


async def _disconnect(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
