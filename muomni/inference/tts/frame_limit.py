"""The most frames of an utterance."""

FRAMES_PER_TOKEN, MIN_FRAMES, MAX_FRAMES, DEFAULT_FRAMES = 30, 50, 1000, 200


def frame_limit(num_tokens: int) -> int:
    """Maximum frames, of 80 ms, of an utterance: clamp(30 x tokens, 50, 1000); 200 for an unknown number of tokens (0)."""
    if num_tokens == 0:
        return DEFAULT_FRAMES
    return min(max(FRAMES_PER_TOKEN * num_tokens, MIN_FRAMES), MAX_FRAMES)
