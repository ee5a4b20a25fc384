"""The small model of the tests of inference."""

from tests.unit.inference.conftest import export, parts, tokenizer_path  # noqa: F401
