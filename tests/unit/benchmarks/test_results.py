from benchmarks.results import table
from benchmarks.stages import ONE_OPTIMIZER, STAGES
from muomni.cli.help import CONF


def test_a_table_has_text_on_the_left_and_numbers_of_three_digits_on_the_right():
    rows = [{"stage": "thinker", "ms": 12.3456, "steps": 7}, {"stage": "ocr", "ms": 12345.6, "steps": None}]
    assert table(rows).splitlines() == ["stage        ms  steps", "thinker    12.3      7", "ocr      12,346      -"]


def test_the_list_of_stages_is_that_of_the_configuration():
    assert sorted(STAGES) == sorted(path.stem for path in (CONF / "stage").glob("*.yaml"))
    assert set(STAGES) - set(ONE_OPTIMIZER) == {"vocoder"}
