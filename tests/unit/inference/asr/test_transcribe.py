"""From a recording to its text and words: greedy, beams, language models, timestamps, any length."""

from dataclasses import replace

import pytest
import torch

from muomni.frontends.char_vocab import encode_characters
from muomni.frontends.hearing import PreparedSpeech
from muomni.inference.asr.alignment import Word
from muomni.inference.asr.ctc_beam import CtcBeamSearch
from muomni.inference.asr.ctc_decoders import CtcBeamDecoder, build_decoder, greedy_decode
from muomni.inference.asr.long_audio import Windows
from muomni.inference.asr.ngram import train_ngram
from muomni.inference.asr.recognizer import greedy_texts
from muomni.inference.asr.rescoring import ThinkerScorer
from muomni.inference.asr.transcribe import Transcriber
from muomni.inference.asr.transcript import Transcript
from muomni.inference.prompt import Request
from muomni.special_tokens import EOS

SHORT = Windows(length=1.0, overlap=0.4, pause=0.16, max_segment=2.0)


class Recorded(torch.nn.Module):
    """An encoder whose mel is its log-probabilities, frame by frame: what it hears is what was written into it."""

    downsample, characters, num_symbols = 4, None, 99

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def forward(self, mel, lengths):
        class Output:
            pass

        output = Output()
        output.logits, output.lengths = mel[:, ::4], -(-lengths // 4)
        return output


def recording(text, *, gap=1):
    """A mel (T, 99) in which each character is heard for two encoder frames; "|" is a silence of six."""
    frames = []
    for character in text:
        frames += [0] * 6 if character == "|" else encode_characters(character) * 2 + [0] * gap
    return (9.0 * torch.nn.functional.one_hot(torch.tensor(frames), 99).float()).repeat_interleave(4, 0)


def transcribe(mel, *, windows=SHORT, read=greedy_decode):
    transcriber = Transcriber(Recorded(), hop=160, sample_rate=16000, windows=windows)
    return transcriber(torch.zeros(160 * len(mel)), mel, read, timestamps=True)


@pytest.mark.parametrize("windows", [SHORT, replace(SHORT, length=60.0)])
def test_long_recordings_lose_no_word_and_double_none(windows):
    text = "the red circle is above|the blue square|and a bee"
    transcript = transcribe(recording(text), windows=windows)
    whole = text.replace("|", " ") if windows is SHORT else text.replace("|", "")
    assert transcript.text == whole
    assert " ".join(word.text for word in transcript.words) == whole
    times = [time for word in transcript.words for time in (word.start, word.end)]
    assert times == sorted(times)


TEXTS = ["the red circle is above|the blue square|and a bee", "abcdefghijkl mnopqrstuvwxyz abcdefghijklmnopqrstuvw", "a|",
         "|", "|a||b" * 5, "the red|circle", "abc" * 40]  # fmt: skip


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("windows", [SHORT, replace(SHORT, max_segment=0.5)])
def test_the_stream_of_segments_is_the_transcript(text, windows):
    mel = recording(text)
    whole = transcribe(mel, windows=windows)
    transcriber = Transcriber(Recorded(), hop=160, sample_rate=16000, windows=windows)
    streamed = list(transcriber.stream(torch.zeros(160 * len(mel)), mel, greedy_decode))
    assert streamed == whole.segments
    assert " ".join(segment.text for segment in whole.segments) == whole.text
    assert [word for segment in whole.segments for word in segment.words] == whole.words
    assert whole.duration == pytest.approx(len(mel) / 100)


def test_segments_come_before_the_recording_is_encoded():
    encoder, mel = Recorded(), recording("the red circle|" * 12)
    encoded = []
    encoder.register_forward_hook(lambda module, given, output: encoded.append(len(given[0])))
    segments = Transcriber(encoder, hop=160, sample_rate=16000, windows=SHORT).stream(
        torch.zeros(160 * len(mel)), mel, greedy_decode
    )
    assert next(segments).text == "the red circle"
    early = sum(encoded)
    assert len(list(segments)) == 12  # the last one is longer than a segment may be
    assert early < sum(encoded) / 2


def test_recordings_of_a_batch_are_their_single_runs():
    transcriber = Transcriber(Recorded(), hop=160, sample_rate=16000, windows=SHORT)
    mels = [recording(text) for text in TEXTS]
    heard = [PreparedSpeech(torch.zeros(160 * len(mel)), mel, [(0, len(mel))]) for mel in mels]
    assert transcriber.batch(heard, greedy_decode, timestamps=True) == [transcribe(mel) for mel in mels]
    assert transcriber.batch([], greedy_decode, timestamps=True) == []


def test_a_word_that_a_cut_goes_through_stays_one():
    """No pause: pieces are cut where a blank is, also between two letters of a word."""
    text = "abcdefghijkl mnopqrstuvwxyz abcdefghijklmnopqrstuvw"
    transcript = transcribe(recording(text), windows=replace(SHORT, max_segment=0.5))
    assert transcript.text == text
    assert [word.text for word in transcript.words] == text.split()


def test_times_are_those_of_the_frames():
    transcript = transcribe(recording("ab|c", gap=0))
    assert transcript.words[0] == Word("ab", 0.0, pytest.approx(0.16)) or transcript.words[0].text == "abc"
    long = transcribe(recording("ab" * 12 + "|c", gap=0))
    assert long.words[1] == Word("c", pytest.approx(54 * 0.04), pytest.approx(56 * 0.04))
    assert long.lines()[1] == "2.16\t2.24\tc"


def test_beams_without_a_language_model_hear_the_same_when_all_is_clear():
    mel = recording("a red circle")
    assert transcribe(mel, read=build_decoder(beams=8)).text == "a red circle"


def unsure():
    """Between "red" and "rad": the encoder leans to the wrong one."""
    mel = recording("rad")
    a, e = encode_characters("ae")
    mel[mel.argmax(-1) == a, e] = 8.5
    return mel


def test_an_n_gram_turns_the_choice():
    lm = train_ngram(["red", "a red circle", "the red square"], order=4, unit="character")
    assert transcribe(unsure()).text == "rad"
    assert transcribe(unsure(), read=build_decoder(beams=8)).text == "rad"
    assert transcribe(unsure(), read=build_decoder(beams=8, lm=lm)).text == "red"
    words = train_ngram(["red", "a red circle"], order=2, unit="word")
    assert transcribe(unsure(), read=build_decoder(beams=8, lm=words)).text == "red"


def test_a_second_opinion_ranks_the_beams_anew():
    asked = []

    def opinion(waveform, texts):
        asked.append((len(waveform), texts))
        return [0.0 if text == "red" else -4.0 for text in texts]

    search = CtcBeamSearch(beams=8, lm=None, lm_weight=0.0, bonus=0.0)
    assert transcribe(unsure(), read=CtcBeamDecoder(search=search, scorer=opinion, weight=1.0)).text == "red"
    assert transcribe(unsure(), read=CtcBeamDecoder(search=search, scorer=opinion, weight=0.1)).text == "rad"
    assert asked[0][0] == 160 * len(unsure()) and "rad" in asked[0][1]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"beams": 0}, "beams=0"),
        ({"lm": "x.arpa"}, "give beams="),
        ({"lm_weight": 0.5, "beams": 4}, "name one by lm="),
        ({"lm": "x.arpa", "lm_weight": -1.0, "beams": 4}, "lm_weight=-1.0"),
    ],
)
def test_options_that_do_not_go_together_are_refused(options, reason):
    with pytest.raises(ValueError, match=reason):
        build_decoder(**options)


# --- the engine ---------------------------------------------------------------------------------------------------


def test_the_engine_reads_files_and_waveforms_greedily(engine, sound):
    from muomni.frontends.audio_io import read_audio

    waveform = read_audio(sound, 16000)
    text = engine.transcribe(sound)
    assert text == engine.transcribe(waveform)
    with torch.inference_mode():
        assert text == greedy_texts(engine.modules["audio"](engine.media.hear(waveform).trimmed()[None]))[0]
    timings = engine.transcript(sound).timings
    assert timings.transcribed_seconds == 0.5
    assert "transcribed: 0.50 s of audio" in timings.lines()[0]


def test_the_engine_gives_words_with_times_and_hears_long_recordings(engine):
    loudness = torch.where(torch.arange(16000 * 21) // 2000 % 3 > 0, 1.0, 0.01)  # of a steady noise nothing is heard
    transcript = engine.transcribe(0.1 * loudness * torch.randn(16000 * 21), timestamps=True)
    assert isinstance(transcript, Transcript)
    assert transcript.text.split() == [word.text for word in transcript.words]
    assert 8 < transcript.words[-1].end <= 21


def test_a_language_model_comes_as_a_file_or_as_a_model(engine, sound, tmp_path):
    lm = train_ngram(["hello there", "what colour is it"], order=3, unit="character")
    lm.save(tmp_path / "lm.arpa")
    heard = engine.transcribe(sound, beams=8, lm=lm)
    assert heard == engine.transcribe(sound, beams=8, lm=tmp_path / "lm.arpa") != engine.transcribe(sound, beams=8)
    with pytest.raises(FileNotFoundError, match="no such language model"):
        engine.transcribe(sound, beams=8, lm="gone.arpa")


@torch.inference_mode()
def test_the_thinkers_opinion_is_the_likelihood_of_the_text_as_its_answer(engine, sound):
    scorer = ThinkerScorer(engine.prompter)
    waveform = engine.media.hear(sound).waveform
    texts = ["a big red circle", "tell me", ""]
    together = scorer(waveform, texts)
    torch.testing.assert_close(together, [scorer(waveform, [text])[0] for text in texts], atol=1e-4, rtol=1e-4)
    request = Request(audios=[sound])
    prompt = engine.prompter.prompt(request, engine.prompter.encode_media(request))
    ids = torch.tensor([*prompt.ids.tolist(), *engine.tokenizer.encode("tell me"), EOS])
    logits = engine.prompter.thinker(ids[None], embeddings=engine.prompter.embed(ids[None], [prompt.features])).logits
    told = logits[0].log_softmax(-1)[:-1].gather(1, ids[1:, None])[len(prompt) - 1 :, 0]
    assert together[1] == pytest.approx(float(told.sum()), abs=1e-3)


def test_the_thinker_ranks_the_beams(engine, sound):
    assert isinstance(engine.transcribe(sound, beams=4, lm="thinker"), str)
    assert engine.transcribe(sound, beams=4, lm="thinker", lm_weight=0.0) == engine.transcribe(sound, beams=4)
    assert engine.transcribe(sound, beams=4, lm="thinker", lm_weight=1e4) != engine.transcribe(sound, beams=4)


def test_a_recording_is_cut_into_pieces_that_the_thinker_can_hear(engine, monkeypatch):
    """Pieces are up to 16 s long; this Thinker hears 2.5 s."""
    lengths, score = [], ThinkerScorer.__call__

    def listen(self, waveform, texts):
        lengths.append(len(waveform) / 16000)
        return score(self, waveform, texts)

    monkeypatch.setattr(ThinkerScorer, "__call__", listen)
    blanks = torch.full((100, 99), -10.0)
    blanks[:, 0] = 0.0
    blanks[10::20, 0], blanks[10::20, 40] = -10.0, 0.0  # short pauses: none of them ends a piece
    monkeypatch.setattr("muomni.inference.asr.transcribe.encode_windows", lambda *_, **__: blanks)
    engine.transcribe(torch.randn(16000 * 4), beams=4, lm="thinker")
    assert len(lengths) > 1 and sum(lengths) == pytest.approx(4.0) and max(lengths) <= 2.5
    blanks[:, 0], blanks[:, 40] = -10.0, 0.0
    with pytest.raises(ValueError, match=r"lm=thinker: a segment without a pause is too long .* at most 32 .* lm=FILE"):
        engine.transcribe(torch.randn(16000 * 4), beams=4, lm="thinker")
