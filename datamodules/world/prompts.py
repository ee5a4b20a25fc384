"""How many items of each task and of each type of question there are."""

from datamodules.world.spec import WorldSpec

HEARD = ("heard_colour", "heard_shape")  # questions about what was said
# Task shares of training (they sum to one), and of the types of questions about a picture.
TASK_SHARES = {"text_qa": 0.04, "image_qa": 0.69, "caption": 0.05, "asr": 0.08, "audio_qa": 0.02,
               "spoken_image_qa": 0.08, "tts": 0.04}  # fmt: skip
# Most counts come out as questions of another type, see `Instructions.draw_question`.
QUESTION_SHARES = {"colour": 0.11, "shape": 0.07, "count": 0.59, "where": 0.11, "relation": 0.12}
# Nearly each spoken relation is another recording.
SPOKEN_SHARES = {"colour": 0.2, "shape": 0.25, "count": 0.25, "where": 0.2, "relation": 0.1}
COUNT_ALL_KEPT = 0.1  # of the questions for the number of all objects
SPOKEN_COUNT_ALL_KEPT = 0.6  # these alone say how many five are, see `Instructions.image_qa`
TEXT_SHARES = {"fact": 0.4, "arithmetic": 0.35, "story": 0.25}


def task_counts(total: int) -> dict[str, int]:
    """How many items of each task make `total` by TASK_SHARES (rounded; at least one each)."""
    return {task: max(1, round(total * share)) for task, share in TASK_SHARES.items()}


def instruction_counts(spec: WorldSpec) -> dict[tuple[str, str], int]:
    """{(split, task): items}. Of the tests' image_qa *pairs* of each type, of their text_qa items of each type."""
    counts = {("train", task): count for task, count in task_counts(spec.instructions).items()}
    counts |= {("val", task): count for task, count in task_counts(spec.instruction_val).items()}
    pairs, tests = (spec.instruction_questions + 1) // 2, spec.instruction_tests
    few = max(1, pairs // 4)
    counts |= {("test_iid", "image_qa"): pairs, ("test_comp", "image_qa"): pairs, ("test_count", "image_qa"): few,
               ("test_para", "image_qa"): few, ("test_iid", "text_qa"): tests}  # fmt: skip
    counts |= {(split, "caption"): min(tests, spec.eval_pictures) for split in ("test_iid", "test_comp", "test_para")}
    for split in ("test_iid", "test_voice"):
        counts[split, "asr"] = min(tests, spec.speech_test // 2)
        counts[split, "audio_qa"] = tests
        counts[split, "spoken_image_qa"] = min(-(-tests // len(QUESTION_SHARES)), 2 * pairs)
    counts["test_iid", "tts"] = min(tests, spec.speech_test // 2)
    return counts
