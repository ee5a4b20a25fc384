import pytest

from muomni.frontends.tokenizer import Tokenizer

TEXT = "the big red circle is above a small blue square and what colour is it please tell me now"
WORDS = TEXT.split()


@pytest.fixture(scope="session")
def tokenizer(tmp_path_factory) -> Tokenizer:
    lines = [" ".join(WORDS[i % 7 :: 1 + i % 3]) + f" {i} + {i} = {2 * i}" for i in range(200)]
    return Tokenizer.train(lines, 340, tmp_path_factory.mktemp("tokenizer") / "tokenizer.model")
