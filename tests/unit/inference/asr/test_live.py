"""Recognition while the sound comes: any pieces give the same, what is final stays, and nothing hangs."""

import itertools
import sys
import threading
import time

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from muomni.frontends.char_vocab import collapse_ctc, decode_characters
from muomni.frontends.hearing import Hearing
from muomni.frontends.mel import MelSpec
from muomni.inference.asr import live as live_file
from muomni.inference.asr.live import LiveOptions, LiveTranscriber, PartialTranscript, transcribe_pieces
from muomni.inference.asr.live_reader import ChunkReader, WindowReader, live_reader
from muomni.inference.errors import AudioStalled, InvalidMedia, InvalidOption
from muomni.models.audio import Audio

RATE = 16000
MEL = MelSpec(sample_rate=RATE, hop=160, n_fft=512, win=400, bins=16, f_min=0.0, f_max=8000.0, log=True, floor=1e-5)
CUTS = st.lists(st.integers(0, 60000), max_size=12)


def encoder(chunk, right, **options):
    torch.manual_seed(3)
    audio = Audio(
        n_mels=16, num_symbols=99, channels=4, downsample=4, dim=32, num_layers=2, num_heads=2, ff_dim=48, conv_kernel=5,
        chunk=chunk, right_context=right, **options,
    )  # fmt: skip
    torch.nn.init.normal_(audio.head.weight, std=0.5)  # so that frames spell unlike symbols
    return audio.eval()


CHUNKED, WHOLE = encoder(5, 2), encoder(0, 0)
PLAIN = Hearing(MEL, None)


def noise(seconds, level, seed=0):
    return torch.randn(round(seconds * RATE), generator=torch.Generator().manual_seed(seed)) * 10 ** (level / 20)


def speech(*seconds):
    """Silence and sound in turn."""
    return torch.cat([noise(each, -20 if i % 2 else -75, seed=i) for i, each in enumerate(seconds)])


def cut(waveform, cuts):
    return torch.tensor_split(waveform, sorted(each % (len(waveform) + 1) for each in cuts))


def heard(pieces, audio=CHUNKED, hearing=PLAIN, **options):
    chosen = LiveOptions(**options)
    return list(transcribe_pieces(LiveTranscriber(audio, hearing, chosen), pieces, chosen))


def known(transcripts):
    """All but when it was heard, which is a matter of the pieces."""
    return [(each.turn, each.text, each.tentative, each.settled, each.ended) for each in transcripts]


@torch.inference_mode()
def settled(reader, pieces):
    readings = [reading for piece in pieces for reading in reader.push(piece)]
    return torch.cat([reading.settled for reading in [*readings, reader.close()]])


@settings(deadline=None, max_examples=30)
@example(7 * 640, [], 5, 2, None, 0)  # the last frame of a step is whole, and its window reaches beyond the end
@given(
    st.integers(0, 40000), CUTS, st.integers(1, 8), st.integers(0, 4), st.sampled_from([None, 0, 6]), st.integers(0, 9)
)
def test_any_pieces_of_a_waveform_give_the_logits_of_the_whole(samples, cuts, chunk, right, left, seed):
    audio, waveform = encoder(chunk, right, left_context=left), noise(samples / RATE, -20, seed)
    came = settled(ChunkReader(audio, PLAIN), cut(waveform, cuts))
    assert torch.equal(came, settled(ChunkReader(audio, PLAIN), [waveform]))  # to the bit
    if samples >= 160:
        with torch.inference_mode():
            torch.testing.assert_close(came, audio(PLAIN(waveform).mel[None]).logits[0], atol=1e-4, rtol=1e-4)


@settings(deadline=None, max_examples=10)
@given(CUTS, st.sampled_from([CHUNKED, WHOLE]), st.sampled_from(["energy", None]))
def test_any_pieces_give_the_same_transcripts(cuts, audio, vad):
    waveform = speech(0.6, 1.2, 1.0, 0.8, 0.2)
    whole = heard([waveform], audio, vad=vad)
    assert known(heard(list(cut(waveform, cuts)), audio, vad=vad)) == known(whole)
    assert any(each.text for each in whole)


@pytest.mark.parametrize("audio", [CHUNKED, WHOLE], ids=["chunks", "window"])
def test_an_ended_turn_has_its_words_with_their_times_in_the_stream(audio):
    transcripts = heard(speech(1.0, 1.0, 1.5, 1.0, 1.5).split(900), audio, words=True)
    ended = [each for each in transcripts if each.ended]
    assert len(ended) == 2
    for said in ended:
        assert [word.text for word in said.words] == said.text.split()
        times = [time for word in said.words for time in (word.start, word.end)]
        assert times == sorted(times) and said.start <= times[0] <= times[-1] <= said.settled + 1e-6
    assert not any(each.words for each in transcripts if not each.ended)


@pytest.mark.parametrize("audio", [CHUNKED, WHOLE], ids=["chunks", "window"])
@pytest.mark.parametrize("vad", ["energy", None])
def test_what_is_final_is_never_taken_back_and_is_final_in_time(audio, vad):
    pieces = speech(0.6, 3.0, 1.0, 1.8, 1.0).split(320)
    transcripts = heard(list(pieces), audio, vad=vad)
    latency = live_reader(audio, PLAIN).latency
    for _, said in itertools.groupby(transcripts, key=lambda each: each.turn):
        said = list(said)
        assert [each.ended for each in said] == [False] * (len(said) - 1) + [True]
        assert said[-1].tentative == ""
        for before, after in itertools.pairwise(said):
            assert after.text.startswith(before.text)
            assert after.settled >= before.settled
        assert any(each.tentative for each in said)
        for each in said:
            assert each.heard - each.settled <= latency + 2 * 0.02  # a piece, and a frame of the gate
    assert [each.turn for each in transcripts if each.ended] == ([0, 1] if vad else [0])


def test_the_final_text_is_the_greedy_text_of_the_whole():
    waveform = noise(3.1, -20)
    (last,) = [each for each in heard([waveform], vad=None) if each.ended]
    with torch.inference_mode():
        path = CHUNKED(PLAIN(waveform).mel[None]).logits[0].argmax(-1).tolist()
    assert last.text == decode_characters(collapse_ctc(path)).strip() == str(last)
    assert last.settled == last.heard == pytest.approx(3.1)


def test_the_window_reads_again_what_a_clip_of_a_window_holds():
    waveform = noise(1.1, -20)
    (last,) = [each for each in heard([waveform], WHOLE, vad=None) if each.ended]
    with torch.inference_mode():
        path = WHOLE(PLAIN(waveform).mel[None]).logits[0].argmax(-1).tolist()
    assert last.text == decode_characters(collapse_ctc(path)).strip()  # settled at its end
    long = settled(WindowReader(WHOLE, PLAIN), noise(20, -20).split(1600))
    assert len(long) == 500


def test_turns_have_their_begins():
    transcripts = heard([speech(1.0, 1.0, 1.5, 1.0, 1.5)])
    starts = sorted({(each.turn, each.start) for each in transcripts})
    assert [start for _, start in starts] == pytest.approx([0.7, 3.2], abs=0.1)  # less the padding


def test_a_long_turn_is_cut(monkeypatch):
    monkeypatch.setattr(live_file, "MOST_SECONDS", 1.0)
    ended = [each for each in heard(list(noise(2.5, -20).split(700)), vad=None) if each.ended]
    assert [(each.start, round(each.settled, 3)) for each in ended] == [(0.0, 1.0), (1.0, 2.0), (2.0, 2.5)]


@pytest.mark.parametrize("pieces", [[], [torch.zeros(0)], [torch.zeros(40000)], [noise(4, -80)], [torch.zeros(10)]])
def test_nothing_and_silence_end_cleanly(pieces):
    assert heard(iter(pieces)) == []


def test_without_a_gate_silence_has_an_empty_text_or_none():
    assert heard(iter([]), vad=None) == []
    assert heard([torch.zeros(10)], vad=None) == [PartialTranscript("", "", 0, 0.0, 10 / RATE, 10 / RATE, ended=True)]


def test_audio_that_stalls_says_so_after_what_came():
    gate = threading.Event()

    def pieces():
        yield noise(1.2, -20)
        gate.wait(5)

    came, begun = [], time.perf_counter()
    with pytest.raises(AudioStalled, match=r"the audio has stalled after 1.2 s: nothing came for 0.2 s"):
        came.extend(transcribe_with(pieces(), vad=None, patience=0.2))
    gate.set()
    assert time.perf_counter() - begun < 4


def transcribe_with(pieces, **options):
    chosen = LiveOptions(**options)
    return transcribe_pieces(LiveTranscriber(CHUNKED, PLAIN, chosen), pieces, chosen)


def test_an_error_of_the_microphone_comes_through():
    def pieces():
        yield noise(0.1, -20)
        raise OSError("unplugged")

    with pytest.raises(OSError, match="unplugged"):
        list(transcribe_with(pieces()))


@pytest.mark.parametrize(
    ("piece", "line"),
    [
        (torch.zeros(2, 100), "piece 1 of the audio: a waveform .* not torch.float32 \\(2, 100\\)"),
        (torch.zeros(100).int(), "not torch.int32"),
        (np.zeros((100, 2), np.float32), "a mono array"),
        ("a.wav", "not str"),
        (None, "not NoneType"),
        (torch.full((100,), float("nan")), "piece 1 of the audio holds NaN or Inf"),
        (torch.full((100,), 12000.0), "samples up to 1.2e\\+04, where 1 is full scale"),
    ],
)
def test_a_piece_that_is_no_audio_is_named(piece, line):
    with pytest.raises(InvalidMedia, match=line):
        heard([noise(0.1, -20), piece])


@pytest.mark.parametrize(("dtype", "scale"), [(np.int16, 1), (np.float64, 1 / 32768)])
def test_pieces_may_be_arrays(dtype, scale):
    waveform = (noise(1.0, -20) * 32768).round().clamp(-32768, 32767)
    pieces = [(waveform * scale).numpy().astype(dtype)]
    assert known(heard(pieces, vad=None)) == known(heard([waveform / 32768], vad=None))


@pytest.mark.parametrize("rate", [8000, 44100, 48000])
def test_other_rates_are_resampled(rate):
    transcripts = heard(list(noise(2.0, -20)[:RATE].repeat(4)[: 2 * rate].split(500)), vad=None, rate=rate)
    assert transcripts[-1].ended
    assert transcripts[-1].heard == pytest.approx(min(2 * rate, 4 * RATE) / rate, abs=1e-3)


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"vad": "magic"}, "vad=magic: one of energy, silero, or None"),
        ({"rate": 0}, "rate=0: a number from 1000"),
        ({"rate": "16k"}, "rate='16k': a number"),
        ({"rate": 44101}, "rate=44101: it has no small ratio to the encoder's 16000 Hz"),
        ({"threshold": 2}, "threshold=2: a number from 0 to 1"),
        ({"silence": -1}, "silence=-1"),
        ({"padding": "a"}, "padding='a'"),
        ({"patience": 0}, "patience=0: seconds above 0"),
        ({"words": 1}, "words=1"),
    ],
)
def test_wrong_options_are_named(options, line):
    with pytest.raises(InvalidOption, match=line):
        heard([noise(0.1, -20)], **options)


def test_a_gate_that_is_not_installed_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "silero_vad", None)
    with pytest.raises(InvalidOption, match="vad=silero needs silero-vad: pip install silero-vad"):
        heard([], vad="silero")


def test_an_encoder_without_chunks_says_how_to_train_one(engine, caplog):
    engine.transcribe_stream(iter([]))
    assert "trained without chunks" in caplog.text
    assert "audio_encoder=streaming trains one" in caplog.text


def test_an_engine_takes_pieces(engine):
    pieces = speech(0.6, 1.0, 1.0).split(4000)
    transcripts = list(engine.transcribe_stream(iter(pieces)))
    assert [each.ended for each in transcripts][-1:] == [True]
    with pytest.raises(InvalidOption, match="unknown option 'beams' of transcribe_stream with pieces of audio"):
        engine.transcribe_stream(iter(pieces), beams=4)
    assert list(engine.transcribe_stream(torch.cat(pieces))) is not None  # a whole recording: its segments
