"""Rescoring of transcripts by the Thinker of an omni model: log-probabilities of candidate texts given the clip.

Shapes: N candidates, P prompt tokens, T tokens of the longest candidate with its EOS, V vocabulary.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from muomni.frontends.chat import encode_answer
from muomni.inference.audio_excerpt import AudioTooLongError
from muomni.inference.errors import ContextLength, InvalidOption
from muomni.inference.prompt import PromptBuilder, Request
from muomni.special_tokens import EOS, PAD


class ThinkerScorer:
    """Callable: a waveform at the encoder's rate and texts -> log-probabilities (N) of the texts as its transcript."""

    def __init__(self, prompter: PromptBuilder) -> None:
        self.prompter = prompter

    @property
    def max_frames(self) -> int:
        """Encoder frames that always fit into the audio tokens of a request."""
        projector: Any = self.prompter.model.audio_projector
        if projector is None:
            raise InvalidOption(
                "lm=thinker: this export's Thinker takes no audio: use one of stage=omni_sft, or lm=FILE", param="lm"
            )
        return (self.prompter.max_audio_tokens - 1) * projector.stack

    @torch.inference_mode()
    def __call__(self, waveform: Tensor, texts: Sequence[str]) -> list[float]:
        """Raises ContextLength for a clip with more audio tokens than the context allows."""
        prompter, device = self.prompter, self.prompter.device
        request = Request(audios=[waveform])
        answers = [torch.tensor([*encode_answer(prompter.tokenizer, text), EOS]) for text in texts]
        try:
            features = prompter.encode_media(request)
        except AudioTooLongError as error:
            raise ContextLength(
                f"lm=thinker: a segment without a pause is too long for this Thinker ({error}); "
                "an n-gram, lm=FILE, takes any length",
                param="lm",
            ) from error
        prompt = prompter.fitting(request, features, max_new_tokens=max(map(len, answers)))
        rows = [torch.cat([prompt.ids, answer[:-1]]) for answer in answers]
        ids = pad_sequence(rows, batch_first=True, padding_value=PAD).to(device)  # right padding: attention is causal
        targets = pad_sequence(answers, batch_first=True, padding_value=PAD).to(device)  # N T
        embeddings = prompter.embed(ids, [prompt.features] * len(texts))
        logits = prompter.thinker(ids, embeddings=embeddings).logits[:, len(prompt) - 1 :]  # N T V
        log_probs = logits.float().log_softmax(-1).gather(2, targets[..., None])[..., 0]
        return (log_probs * (targets != PAD)).sum(1).tolist()
