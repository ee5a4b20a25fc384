"""The live server of tests/unit/serving."""

from tests.unit.serving.conftest import engine, export, live, parts, tokenizer_path  # noqa: F401
