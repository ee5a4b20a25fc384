"""The reference numbers, Chat: what tests/unit/inference/test_chat.py does not name already."""

from muomni.inference.decoding.timings import Timings, cache_lines


def test_cache_usage():
    """After each reply: position, share, state and what is left."""
    assert cache_lines(512, 2048) == [
        "KV Cache usage:",
        "  Position: 512 / 2048 (25.0%) [OK]",
        "  Remaining capacity: 1536 tokens",
    ]


def test_timing_statistics():
    """prompt tokens, ms, tokens/s; generated tokens, model ms (ms/token), lm-head ms, sampling ms, total, tokens/s; speech
    frames, real-time factor, time to first audio."""
    timings = Timings(
        prompt_tokens=20, prefill=0.1, new_tokens=10, model=0.4, head=0.05, sampling=0.1, frames=25, speech=0.5,
        first_audio=0.2, audio_seconds=2.0, vocoder="griffin_lim",
    )  # fmt: skip
    assert timings.lines() == [
        "prompt: 20 tokens, 100.0 ms, 200.0 tokens/s",
        "generated: 10 tokens, model 400.0 ms (40.00 ms/token), lm-head 50.0 ms, sampling 100.0 ms, total 500.0 ms, "
        "20.0 tokens/s",
        "speech: 25 frames, 2.00 s of audio, real-time factor 0.250, first audio after 200.0 ms, vocoder griffin_lim",
    ]
