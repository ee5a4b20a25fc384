"""Errors of the schema name the field that is meant."""

import pytest
from pydantic import ValidationError

from muomni.serving.errors import validation_error
from muomni.serving.schemas.embeddings import EmbeddingRequest


@pytest.mark.parametrize(
    ("given", "param"),
    [
        (3, "input"), ([], "input"), ([""], "input[0]"), (["a", {"image": ""}], "input[1].image"),
        ([{"imag": "x"}], "input[0].imag"), ([{"text": 3}], "input[0].text"), ([[1, 2]], "input[0]"),
    ],
)  # fmt: skip
def test_of_several_types_the_one_that_fits_best_names_the_field(given, param):
    body = {"model": "m", "input": given}
    with pytest.raises(ValidationError) as caught:
        EmbeddingRequest.model_validate(body)
    assert validation_error(caught.value, body).param == param
