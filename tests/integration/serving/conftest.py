"""The live server of tests/unit/serving for other people's clients."""

from tests.unit.serving.conftest import engine, export, live, parts, picture, sound, start, tokenizer_path  # noqa: F401
