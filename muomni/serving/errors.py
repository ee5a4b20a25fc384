"""Errors in OpenAI's form, {"error": {"message", "type", "param", "code"}}, whatever raised them."""

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from muomni.inference.errors import Cancelled, ContextLength, MuomniError, QueueFull

log = logging.getLogger(__name__)

TYPES = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 429: "rate_limit_error"}
CODES = {
    400: None, 401: "invalid_api_key", 403: "forbidden", 404: "not_found", 405: "method_not_allowed", 408: "timeout",
    413: "too_large", 415: "unsupported_media_type", 421: "misdirected_request", 429: "server_busy", 500: "internal_error",
    503: "unavailable",
}  # fmt: skip


CLIENT_GONE = 499  # for the log: nobody reads this status


class ApiError(Exception):
    """An answer other than 200. param: the field at fault, as messages[0].content."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.param = status, message, param
        self.code = code or CODES.get(status)
        self.headers = dict(headers or {})

    @property
    def body(self) -> dict[str, Any]:
        """In OpenAI's form."""
        kind = TYPES.get(self.status, "invalid_request_error" if self.status < 500 else "server_error")
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}


def refused(param: str, message: str, *, code: str | None = None) -> ApiError:
    """A field that this server does not take."""
    return ApiError(400, f"{param}: {message}", param=param, code=code)


@contextmanager
def field_names(**fields: str) -> Iterator[None]:
    """Inside, errors of the engine's options (`text=...`) name the request's field for it."""
    try:
        yield
    except MuomniError as error:
        error.param = fields.get(error.param or "", error.param)
        raise


def api_error(error: BaseException, *, param: str | None = None) -> ApiError:
    """Any exception as the answer to the client. Bugs are logged, and described to the client in no detail."""
    match error:
        case ApiError():
            return error
        case QueueFull():
            seconds = str(max(1, math.ceil(error.retry_after)))
            return ApiError(429, f"{error}", headers={"Retry-After": seconds})
        case Cancelled():
            return ApiError(503, "the server stops: the answer was ended", code="shutting_down")
        case ContextLength():
            return ApiError(400, str(error), param=error.param or param, code="context_length_exceeded")
        case MuomniError():
            return ApiError(400, str(error), param=error.param or param)
        case ClientDisconnect():
            return ApiError(499, "the client has gone")
        case TimeoutError():
            return ApiError(408, "the answer took longer than this server allows", code="timeout")
        case MemoryError():
            return ApiError(503, "out of memory: try again later, or send less", headers={"Retry-After": "5"})
    log.error("a request failed", exc_info=error)
    return ApiError(500, "an error of the server; its log says more")


def validation_error(
    error: RequestValidationError | ValidationError, body: Any, *, under: str | None = None
) -> ApiError:
    """The first field that pydantic refuses, by its name. body: what was validated, or holds it `under` a field."""
    first = _deepest(error.errors(), body if under is None else body.get(under))
    path: list[Any] = [under] if under else []
    path += _steps(first)
    if first["type"] == "json_invalid":
        return ApiError(400, "the body is not valid JSON", code="invalid_json")
    param = field_name(path, body, missing=first["type"] == "missing")
    if first["type"].startswith("union_tag"):  # the field that tells the members apart
        param = ".".join(each for each in (param, first["ctx"]["discriminator"].strip("'")) if each)
    if first["type"] == "missing":
        message = "this field is required"
    elif first["type"] == "extra_forbidden":
        message = "this server does not know this field"
    else:
        message = str(first["msg"])[:300]
    return ApiError(400, f"{param or 'the body'}: {message}", param=param)


def _steps(error: Mapping[str, Any]) -> list[Any]:
    return [each for each in error["loc"] if each not in ("body", "query", "header", "path")]


def _deepest(errors: Sequence[Any], body: Any) -> Any:
    """The first of pydantic's errors; where its value may be of several types (a text or a list, a text or an image), the error
    of the type that fits best: whose error is deepest inside of it."""

    def inside(error: Mapping[str, Any]) -> list[Any]:
        value, path = body, []
        for step in _steps(error):
            if (isinstance(value, list) and isinstance(step, int) and step < len(value)) or (
                isinstance(value, dict) and step in value
            ):
                value = value[step]
                path.append(step)
        return path

    paths = [inside(error) for error in errors]
    alternatives = [index for index, path in enumerate(paths) if path[: len(paths[0])] == paths[0]]
    return errors[max(alternatives, key=lambda i: len(paths[i]) - 0.5 * (errors[i]["type"] == "extra_forbidden"))]


def field_name(path: list[Any], body: Any, *, missing: bool = False) -> str | None:
    """["messages", 0, "user", "content"] -> messages[0].content: pydantic's path without the names of union members, which are
    no fields of the body."""
    name, value = "", body
    for place, step in enumerate(path):
        if isinstance(value, list) and isinstance(step, int) and step < len(value):
            name, value = f"{name}[{step}]", value[step]
        elif isinstance(value, dict) and (step in value or (missing and place == len(path) - 1)):
            name, value = f"{name}.{step}" if name else str(step), value.get(step)
        elif not isinstance(value, dict | list) and not name:  # a form, a query
            name = str(step)
    return name[:200] or None


def answer(error: ApiError) -> JSONResponse:
    """As a response."""
    return JSONResponse(error.body, status_code=error.status, headers=error.headers)


def add_handlers(app: FastAPI) -> None:
    """Every error of the application in OpenAI's form."""

    async def on_api_error(request: Request, error: Exception) -> JSONResponse:
        return answer(api_error(error))

    async def on_validation(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        return answer(validation_error(error, error.body))

    async def on_http(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        message = f"{request.method} {request.url.path[:100]}: {error.detail}"
        return answer(ApiError(error.status_code, message, headers=error.headers))

    app.add_exception_handler(ApiError, on_api_error)
    app.add_exception_handler(ClientDisconnect, on_api_error)  # in the middle of an upload: no error of the server
    app.add_exception_handler(ValueError, on_api_error)
    app.add_exception_handler(RequestValidationError, on_validation)
    app.add_exception_handler(HTTPException, on_http)
    app.add_exception_handler(Exception, on_api_error)
