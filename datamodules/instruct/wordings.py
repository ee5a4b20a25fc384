"""Wordings of a task, eleven for training. The last `HELD_OUT` of each are kept for the test of other wordings."""

HELD_OUT = 3

WORDINGS: dict[str, tuple[str, ...]] = {
    "word": (
        "which word was said?", "what word do you hear?", "what is the word in the recording?", "name the spoken word",
        "which word is spoken here?", "what did the speaker say? one word", "listen and write the word", "what was the word?",
        "give the word that was said", "which word does the voice say?", "the spoken word, please",
        "what single word is in this clip?", "can you tell which word this is?", "say which word you heard",
    ),
    "speaker": (
        "who speaks?", "who is speaking?", "whose voice is this?", "name the speaker", "which speaker is it?",
        "who said this?", "who is talking here?", "whose voice do you hear?", "tell me the speaker's name",
        "which person speaks?", "the speaker, please", "who is heard in the recording?", "do you know this voice? who is it?",
        "to whom does the voice belong?",
    ),
    "object": (
        "what is in the picture?", "what is this?", "what does the picture show?", "name the thing in the picture",
        "which object is shown?", "what do you see?", "what kind of thing is this?", "say what is pictured",
        "what is it a picture of?", "which thing is this?", "name what you see", "what can be seen here?",
        "this is a picture of what?", "could you tell me what this is?",
    ),
    "caption": (
        "describe the picture", "describe what you see", "write a caption", "what is happening in the picture?",
        "give a short description", "describe this image", "caption this picture", "tell me about the picture",
        "describe the scene", "write one sentence about the picture", "summarize the image", "put the picture into words",
        "how would you describe this photo?", "a description of the image, please",
    ),
    "asr": (
        "write down what you hear", "what was said?", "transcribe the recording", "write out the speech",
        "what does the speaker say?", "give the transcript", "transcribe this", "write what is spoken",
        "turn the recording into text", "what are the words?", "take down what is said", "type out the recording",
        "please write the spoken words", "could you transcribe the audio?",
    ),
}  # fmt: skip


def seen_wordings(task: str) -> tuple[str, ...]:
    """Of training, validation and the plain test."""
    return WORDINGS[task][:-HELD_OUT]


def held_out_wordings(task: str) -> tuple[str, ...]:
    """Of the test of other wordings alone."""
    return WORDINGS[task][-HELD_OUT:]
