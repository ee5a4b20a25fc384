"""What is remembered of earlier answers is bounded."""

import pytest

from muomni.serving.errors import ApiError
from muomni.serving.messages import KEPT_CHARACTERS, SpokenAnswers


def test_spoken_answers_are_kept_up_to_a_number_of_characters():
    answers = SpokenAnswers()
    for name in "abc":
        answers.keep(name, name * (KEPT_CHARACTERS // 2))
    assert answers.transcript("c", param="p") and answers.transcript("b", param="p")
    with pytest.raises(ApiError, match="expired"):
        answers.transcript("a", param="p")
