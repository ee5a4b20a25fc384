"""How likely the Thinker of an omni model finds texts as the transcript of a clip: it hears the clip and reads each.

Shapes: N candidates, P prompt tokens, T tokens of the longest candidate with its EOS, V vocabulary.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from muomni.inference.audio_excerpt import AudioTooLongError
from muomni.inference.prompt import Prompter, Request
from muomni.special_tokens import EOS, PAD


class ThinkerScorer:
    """Callable: a waveform at the encoder's rate and texts -> log-probabilities (N) of the texts as its transcript."""

    def __init__(self, prompter: Prompter) -> None:
        self.prompter = prompter

    @property
    def max_frames(self) -> int:
        """Frames of the encoder that surely fit into the tokens which a sound may take."""
        projector: Any = self.prompter.model.audio_projector
        if projector is None:
            raise ValueError("lm=thinker: this export's Thinker hears nothing: use one of stage=omni_sft, or lm=FILE")
        return (self.prompter.max_audio_tokens - 1) * projector.stack

    @torch.inference_mode()
    def __call__(self, waveform: Tensor, texts: Sequence[str]) -> list[float]:
        """Raises ValueError for a clip with more audio tokens than the context allows."""
        prompter, device = self.prompter, self.prompter.device
        request = Request(audios=[waveform])
        answers = [torch.tensor([*prompter.tokenizer.encode(text), EOS]) for text in texts]
        try:
            features = prompter.encode_media(request)
        except AudioTooLongError as error:
            raise ValueError(
                f"lm=thinker: a piece without a pause is longer than this Thinker can hear ({error}); "
                "an n-gram, lm=FILE, hears any"
            ) from error
        prompt = prompter.fitting(request, features, max_new_tokens=max(map(len, answers)))
        read = [torch.cat([prompt.ids, answer[:-1]]) for answer in answers]
        ids = pad_sequence(read, batch_first=True, padding_value=PAD).to(
            device
        )  # causal: padding behind changes nothing
        targets = pad_sequence(answers, batch_first=True, padding_value=PAD).to(device)  # N T
        embeddings = prompter.embed(ids, [prompt.features] * len(texts))
        logits = prompter.thinker(ids, embeddings=embeddings).logits[:, len(prompt) - 1 :]  # N T V
        told = logits.float().log_softmax(-1).gather(2, targets[..., None])[..., 0]
        return (told * (targets != PAD)).sum(1).tolist()
