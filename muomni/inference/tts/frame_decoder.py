"""The Talker as a decoder of the generation loop: a token is a frame of codes.

With guidance (`options.py`) each frame is computed twice, with the text and without it, from a cache for each; so one text takes
the operator for one row both times.

Shapes: B texts, C characters, T frames, K codebooks.
"""

from torch import Tensor

from muomni.inference.decoding.finite import check_finite
from muomni.inference.decoding.row_blocks import begin_with
from muomni.inference.tts.frame_choice import FrameChooser
from muomni.models.outputs import TalkerOutput
from muomni.models.talker import Talker, TalkerCache


class FrameDecoder:
    """The Talker's `Decoder`: a token is a frame (K + 1), the codes and 1 if the utterance ends with it.

    Args:
        spoken: frames that the cache holds already. choose: of the utterances so far. blank: the cache without the text, for a
            guidance.
    """

    def __init__(
        self,
        talker: Talker,
        cache: TalkerCache,
        *,
        spoken: int = 0,
        choose: FrameChooser | None = None,
        blank: TalkerCache | None = None,
    ) -> None:
        self.talker, self.cache, self.blank, self.choose = talker, cache, blank, choose or FrameChooser()
        self.first = cache.position - spoken  # after the text and the start frame

    def __call__(self, tokens: Tensor) -> Tensor:
        """A frame (B, K + 1) -> the next one (B, 1, K + 1)."""
        frame = self.cache.position - self.first + 1
        codes = tokens[:, None, :-1]
        out = self.talker.decode_step(codes, frame=frame, cache=self.cache)
        blank = None if self.blank is None else self.talker.decode_step(codes, frame=frame, cache=self.blank)
        return self.choose(out, blank)[:, None]

    def ended(self, tokens: Tensor) -> Tensor:
        """A frame (B, K + 1) -> (B) bool."""
        return tokens[:, -1] > 0


def first_frames(
    talker: Talker,
    *,
    text: Tensor,
    text_lengths: Tensor,
    speakers: Tensor,
    most: int,
    choose: FrameChooser,
    codes: Tensor | None = None,
    states: Tensor | None = None,
) -> tuple[FrameDecoder, Tensor]:
    """Read texts (B, C) of `text_lengths` (B) and the codes (B, T, K) that were spoken of them so far -> the decoder and the next
    frames (B, K + 1). speakers, states: as of `Talker.forward`. most: frames in all."""
    talker = begin_with(talker)
    caches, outs = list[TalkerCache](), list[TalkerOutput]()
    for with_text in (True, False) if choose.options.guidance != 1 else (True,):
        cache = talker.new_cache(len(text), text.shape[1] + most)
        out = talker.prefill(
            text, text_lengths, speakers=speakers, cache=cache, codes=codes, with_text=with_text, states=states
        )
        check_finite(out.logits, out.stop)
        cache.left_padded &= len(text) > 1  # one text has no padding, and its steps need no mask
        caches.append(cache)
        outs.append(out)
    cache, blank = caches if len(caches) == 2 else (caches[0], None)
    spoken = 0 if codes is None else codes.shape[1]
    return FrameDecoder(talker, cache, spoken=spoken, choose=choose, blank=blank), choose(*outs)
