"""Audio, codec and Talker stages: they learn, and their metrics say what they should."""

import importlib.util
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from muomni.batch import SpeechBatch
from muomni.checkpoints.export import Export, load_export, save_export, trained_characters
from muomni.evaluation.audio import AudioEvaluator
from muomni.evaluation.codec import CodecEvaluator
from muomni.evaluation.talker import TalkerEvaluator
from muomni.frontends.text_normalizer import LETTERS, normalize_text
from muomni.inference.asr.recognizer import ClipAlignment, greedy_texts
from muomni.inference.tts.speaker import Speaker
from muomni.models.audio import Audio
from muomni.models.codec import Codec
from muomni.models.talker import Talker
from muomni.optim.optimizers import adamw
from muomni.stages.audio import AudioStage
from muomni.stages.codec import CodecStage
from muomni.stages.talker import TalkerStage, corrupt_history
from muomni.stages.training_options import TrainingOptions
from tests.measure import measure

MEL = {"sample_rate": 16000, "hop": 160, "bins": 16}
TEXTS = ["abc", "bca", "cab", "acb"]


def batch():
    """Four clips in which a letter is a tone of 16 frames: character c raises the mel bins 4c.. by 2."""
    mel = torch.zeros(4, 48, 16)
    for row, text in enumerate(TEXTS):
        for place, letter in enumerate(text):
            low = 4 * (ord(letter) - ord("a"))
            mel[row, 16 * place : 16 * (place + 1), low : low + 4] = 2.0
    return SpeechBatch(
        mel=mel, mel_lengths=torch.full((4,), 48), characters=torch.tensor([[ord(c) - 96 for c in t] for t in TEXTS]),
        character_lengths=torch.full((4,), 3), speakers=torch.zeros(4, dtype=torch.long), texts=list(TEXTS),
        audio=list(TEXTS), sample_ids=list(TEXTS),
    )  # fmt: skip


def how(**weights):
    training = TrainingOptions(
        optimizer=lambda groups: adamw(groups, lr=5e-3, betas=(0.9, 0.98), adam_ratio=1.0),
        schedule=lambda optimizer: torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1.0),
        weight_decay=0.0, loss_weights=weights, compile_model=False,
    )  # fmt: skip
    return {"training": training, "mel": MEL}


def learn(stage, steps, clips=batch):
    stage.log = lambda *_, **__: None
    optimizer = stage.configure_optimizers()["optimizer"]
    stage.train()
    for _ in range(steps):
        total = stage.total_loss(stage.step(clips()))
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
    stage.eval()
    return float(total.detach())


def score(stage):
    return measure(stage, batch())


def read(output):
    """Greedy CTC over the letters."""
    texts = []
    for path in output.logits.argmax(-1).tolist():
        kept = [c for c, before in zip(path, [0, *path], strict=False) if c != before and c]
        texts.append("".join(chr(96 + c) for c in kept))
    return texts


class ToneJudge:
    """Hears the tones of `batch` in a mel that passes for a waveform."""

    def on(self, device):
        return self

    def in_words(self, text):
        return normalize_text(text, LETTERS).text

    def words(self, waveform, text):
        return [(text, 0.0, 0.1)]

    def __call__(self, waveforms):
        return ["".join("abcd"[int(p.view(-1, 4, 4).sum((0, 2)).argmax())] for p in w.split(16)) for w in waveforms]

    def align(self, paths, texts):
        return [ClipAlignment(torch.tensor([0.08, 0.24, 0.40]), False) for _ in texts]

    def too_short(self, waveforms, texts):
        return [False] * len(texts)

    def align_units(self, paths, texts):
        return [ClipAlignment(torch.tensor([0.0, 0.16, 0.32, 0.48, 0.48]), False) for _ in texts]

    def read(self, paths):
        clips = [batch().mel[TEXTS.index(path)] for path in paths]
        return clips, self(clips)


def build_audio(num_layers=1):
    shape = {"n_mels": 16, "num_symbols": 5, "channels": 4, "downsample": 4, "dim": 32, "num_heads": 2, "ff_dim": 32}
    return Audio(**shape, conv_kernel=3, num_layers=num_layers)


def audio_stage():
    return AudioStage(model=build_audio(), evaluator=partial(AudioEvaluator, decode=read), **how())


def test_intermediate_and_consistency_losses_are_of_training_alone():
    torch.manual_seed(0)
    stage = AudioStage(
        model=build_audio(2), evaluator=partial(AudioEvaluator, decode=read), intermediate=[1],
        **how(intermediate=0.5, consistency=0.2),
    )  # fmt: skip
    stage.log = lambda *_, **__: None
    twice = batch()
    for name in ("mel", "mel_lengths", "characters", "character_lengths", "speakers"):
        setattr(twice, name, torch.cat([getattr(twice, name)] * 2))
    twice.mel[4:, :, 3] = 0.0
    twice.views = 2
    losses = stage.train().step(twice)
    assert set(losses) == {"ctc", "intermediate", "consistency"}
    expected = losses["ctc"] + 0.5 * losses["intermediate"] + 0.2 * losses["consistency"]
    torch.testing.assert_close(stage.total_loss(losses), expected)
    assert losses["consistency"] > 0
    assert set(stage.target_counts(twice)) == set(losses)
    assert set(stage.eval().step(batch())) == {"ctc"}


def test_an_intermediate_block_that_there_is_not_is_refused():
    evaluator = partial(AudioEvaluator, decode=read)
    with pytest.raises(ValueError, match=r"module.intermediate=\[2\].*before the last are needed, 1 to 1"):
        AudioStage(model=build_audio(2), evaluator=evaluator, intermediate=[2], **how())


def build_codec(**options):
    shape = {"n_mels": 16, "stride": 8, "dim": 8, "num_codebooks": 2, "codebook_size": 4, "num_layers": 1, "width": 32}
    shape |= {"kernel": 3, "ff_dim": 32, "decay": 0.8, "dropout": 0.0, "idle": 0.1}
    return Codec(**(shape | options))


def test_audio_learns_and_reports_error_rates():
    torch.manual_seed(0)
    stage = audio_stage()
    before = score(stage)
    learn(stage, 120)
    after = score(stage)
    assert set(after) == {"cer", "wer", "cer_shuffled", "too_short"}
    assert after["cer"] == 0.0 < before["cer"]
    assert after["cer_shuffled"] > 50
    assert [sample["answer"] for sample in stage.evaluator.examples] == TEXTS
    assert stage.export_metadata()["mel"] == MEL


def test_audio_counts_clips_that_are_too_short():
    stage = audio_stage()
    clips = batch()
    clips.mel_lengths[0] = 4  # one frame for three characters
    assert measure(stage, clips)["too_short"] == 25.0


def test_a_recogniser_writes_the_characters_of_its_own(tmp_path):
    """From the training on to whoever loads its export: judge, aligner, transcriber."""
    torch.manual_seed(0)
    audio = Audio(**(build_audio().options | {"characters": "жёa"}))
    stage = AudioStage(model=audio, evaluator=partial(AudioEvaluator, decode=greedy_texts), **how())
    clips = batch()
    clips.texts = [text.translate(str.maketrans("abc", "жёa")) for text in TEXTS]
    learn(stage, 120)
    assert measure(stage, clips)["cer"] == 0.0
    assert stage.export_metadata()["characters"] == "жёa"
    save_export(tmp_path / "audio", stage.export_modules(), metadata=stage.export_metadata(), files={})
    loaded = load_export(tmp_path / "audio", ["audio"]).modules["audio"]
    assert greedy_texts(loaded.eval()(clips.mel, clips.mel_lengths), characters=loaded.characters) == clips.texts
    assert trained_characters(tmp_path / "audio") == "жёa"
    with pytest.raises(ValueError, match="num_symbols=5: 4 characters need num_symbols=6"):
        Audio(**(audio.options | {"characters": "abcd"}))
    with pytest.raises(ValueError, match="characters: one occurs twice"):
        Audio(**(audio.options | {"characters": "aa"}))


def test_codec_learns_and_is_judged():
    torch.manual_seed(0)
    evaluator = partial(CodecEvaluator, judge=ToneJudge(), vocoder=lambda mel: mel)
    stage = CodecStage(model=build_codec(), evaluator=evaluator, **how(commitment=0.25))
    learn(stage, 150)
    metrics = score(stage)
    assert metrics["mel_l1"] < 0.15
    assert metrics["cer_recorded"] == metrics["cer_resynthesis"] == metrics["cer_gap"] == 0.0
    assert metrics["cer_shuffled"] > 50
    assert 0 < metrics["codes_used"] <= metrics["codes_used_mean"] <= 100
    assert {sample["kind"] for sample in stage.evaluator.examples} == {"recorded", "codec"}


class Stranger:
    """An independent judge that writes every second text, with a full stop, and takes all speech for fair."""

    def transcribe(self, waveforms):
        return [f"{text.upper()}." if row % 2 else "" for row, text in enumerate(TEXTS[: len(waveforms)])]

    def compared(self, texts, truth):
        return [text.lower().strip(".") for text in texts], list(truth)

    def quality(self, waveforms, *, aligned):
        return {
            "mos": {version: [3.0, None] for version in waveforms},
            "stoi": {version: [0.5, 0.7] for version in aligned},
            "pesq": {version: [None] for version in aligned},
        }


def test_an_independent_judge_is_measured_next_to_the_own_one(monkeypatch):
    monkeypatch.setattr("muomni.evaluation.synthesis.read_audio", lambda path, rate: torch.zeros(4))
    evaluator = partial(CodecEvaluator, judge=None, vocoder=lambda mel: mel, independent=Stranger())
    metrics = score(CodecStage(model=build_codec(), evaluator=evaluator, **how(commitment=0.25)))
    assert metrics["whisper_cer_resynthesis"] == metrics["whisper_cer_recorded"] == pytest.approx(50.0)
    assert metrics["whisper_cer_resynthesis_median"] == metrics["whisper_cer_resynthesis_capped"] == 50.0
    assert metrics["whisper_cer_resynthesis_low"] <= 50.0 <= metrics["whisper_cer_resynthesis_high"]
    assert metrics["whisper_cer_shuffled"] > 50.0 and metrics["clips"] == 4.0
    assert metrics["mos_recorded"] == metrics["mos_resynthesis"] == 3.0
    assert metrics["stoi_resynthesis"] == pytest.approx(0.6)
    assert not {"pesq_resynthesis", "cer_resynthesis"} & set(metrics), "undefined, and no judge of our own"


def test_a_talker_is_judged_by_both():
    codes = torch.zeros(6, 2, dtype=torch.long)
    stage = build_talker_stage(lambda talker, codec: Echo(lambda text: (codes, False)))
    before = score(stage)
    stage.evaluator.independent = Stranger()
    metrics = score(stage)
    assert before == {name: metrics[name] for name in before}, "the own judge's metrics are what they are without it"
    more = {name.removeprefix("whisper_") for name in metrics.keys() - before.keys()}
    assert {"cer", "cer_codec", "cer_recorded", "cer_shuffled", "wer", "mos", "mos_codec", "stoi_codec"} <= more
    assert stage.evaluator.examples[3]["whisper"] == f"{TEXTS[1].upper()}."


class Echo:
    """A voice that says the codes it was given by text."""

    def __init__(self, by_text):
        self.by_text = by_text

    def in_words(self, text):
        return normalize_text(text, LETTERS)

    def say(self, texts, voices):
        rows = [self.by_text(text) for text in texts]
        return [row for row, _ in rows], [cut for _, cut in rows]


def build_talker_stage(voice, **options):
    talker = Talker(**({
        "num_symbols": 99, "num_speakers": 1, "text_layers": 1, "text_kernel": 3, "num_codebooks": 2,
        "codebook_size": 4, "dim": 32, "num_layers": 1, "num_heads": 2, "ff_dim": 32, "max_frames": 50,
        "shared_embedding": False,
    } | options))  # fmt: skip
    export = Export({"codec": build_codec().eval()}, {"mel": MEL}, Path("checkpoints/codec"))
    evaluator = partial(TalkerEvaluator, voice=voice, vocoder=lambda mel: mel, judge=ToneJudge())
    return TalkerStage(
        model=talker, codec=export, aligner=ToneJudge(), evaluator=evaluator, disturbance=0.2, jitter=0.1,
        **how(codebook_0=2.0),
    )  # fmt: skip


def test_talker_learns_beside_a_frozen_codec():
    torch.manual_seed(0)
    stage = build_talker_stage(lambda talker, codec: None)
    frozen = {name: value.clone() for name, value in stage.codec.state_dict().items()}
    first = learn(stage, 1)
    assert learn(stage, 100) < 0.5 * first
    assert all(torch.equal(frozen[name], value) for name, value in stage.codec.state_dict().items())
    clips = batch()
    codes, _ = stage.codes(clips)
    steps = stage.model(clips.characters, clips.character_lengths, codes, speakers=clips.speakers).durations
    assert (steps - torch.tensor([1.0, 2.0, 2.0])).abs().mean() < 0.4
    assert set(stage.export_modules()) == {"talker", "codec"}


def test_a_talker_learns_durations():
    """A letter is two frames, the silences none; it then says each text in its own six frames."""
    torch.manual_seed(0)
    stage = build_talker_stage(lambda talker, codec: None, alignment="durations", max_frames=12, characters="abc")
    assert stage.loss_names == ("codebook_0", "codebook_1", "duration") and set(stage.step(batch())) == set(
        stage.loss_names
    )
    assert stage.target_counts(batch())["duration"] == 4 * 5
    first = learn(stage, 1)
    assert learn(stage, 150) < 0.4 * first
    clips, talker = batch(), stage.model.eval()
    frames = talker.num_frames(clips.characters, clips.character_lengths, speakers=clips.speakers)
    assert (frames - 6).abs().max() < 0.5
    speaker = Speaker(talker, stage.codec, SimpleNamespace(spec=SimpleNamespace(**MEL)))
    said, cut = speaker.say(TEXTS, [0] * 4)
    codes, lengths = stage.codes(clips)
    assert [len(row) for row in said] == lengths.tolist() == [6] * 4 and not any(cut)
    assert torch.stack(said).eq(codes).float().mean() > 0.9


def test_what_the_judge_writes_is_compared_in_words():
    class Writer(ToneJudge):
        def read(self, paths):
            return [torch.zeros(1)] * len(paths), [f"{text.upper()}!" for text in TEXTS]

    stage = build_talker_stage(lambda talker, codec: Echo(lambda text: (torch.zeros(6, 2, dtype=torch.long), False)))
    stage.evaluator.judge = Writer()
    assert score(stage)["cer_recorded"] == 0.0


def test_talker_metrics_tell_cut_and_runaway_speech():
    codes = torch.zeros(6, 2, dtype=torch.long)
    said = {"abc": (codes, False), "bca": (codes[:3], False), "cab": (codes.repeat(3, 1), False), "acb": (codes, True)}
    metrics = score(build_talker_stage(lambda talker, codec: Echo(said.__getitem__)))
    assert metrics["truncated"] == 25.0
    assert metrics["runaway"] == 25.0
    assert metrics["duration_ratio"] == pytest.approx((1 + 0.5 + 3 + 1) / 4)
    assert metrics["repeated"] == 0.0
    assert metrics["cer_recorded"] == 0.0 < metrics["cer"]


def test_recordings_too_short_for_their_texts_are_counted_and_one_is_named(caplog):
    class Hasty(ToneJudge):
        def align(self, paths, texts):
            return [ClipAlignment(torch.tensor([0.08, 0.24, 0.40]), text == "bca") for text in texts]

        def too_short(self, waveforms, texts):
            return [text == "bca" for text in texts]

    stage = build_talker_stage(lambda talker, codec: Echo(lambda text: (torch.zeros(6, 2, dtype=torch.long), False)))
    stage.aligner = stage.evaluator.judge = Hasty()
    logged = {}
    stage.log = lambda name, value, **_: logged.update({name: float(value)})
    stage.train().step(batch())
    assert logged == {"talker/train/too_short": 25.0}
    stage.on_train_epoch_end()
    stage.on_train_epoch_end()  # said once
    (line,) = caplog.messages
    assert line.startswith("1 of 4 recordings are too short for their texts") and line.endswith("one is bca, 'bca'")
    assert score(stage.eval())["too_short"] == 25.0
    assert logged == {"talker/train/too_short": 25.0}, "of training alone"


def test_alignments_are_remembered_by_recording_and_text_and_not_by_id():
    """Rows of two manifests may have one id, with texts of other lengths: once a crash, or another clip's places."""
    stage = build_talker_stage(lambda talker, codec: None)
    asked = []

    def align(paths, texts):
        asked.append((paths[0], texts[0]))
        return [ClipAlignment(0.08 * torch.arange(1.0, 1 + len(text)), False) for text in texts]

    stage.aligner.align = align
    one, other = batch(), batch()
    other.characters, other.character_lengths = other.characters[:, :2], torch.full((4,), 2)
    other.audio, other.texts = ["val/" + name for name in TEXTS], [text[:2] for text in TEXTS]
    first = stage._char_times(one)
    assert stage._char_times(other).tolist() == first[:, :2].tolist()
    assert torch.equal(stage._char_times(batch()), first) and len(asked) == len(set(asked)) == 8, "each clip once"


def test_talker_refuses_a_codec_that_does_not_fit():
    with pytest.raises(ValueError, match="the codec has 2 codebooks of 4, the Talker speaks 3 of 4"):
        build_talker_stage(lambda talker, codec: None, num_codebooks=3)


def test_a_run_does_not_go_on_with_another_codec():
    def build():
        return build_talker_stage(lambda talker, codec: None)

    torch.manual_seed(0)
    stage = build()
    checkpoint = {"global_step": 7}
    stage.on_save_checkpoint(checkpoint)
    torch.manual_seed(0)
    build().on_load_checkpoint(checkpoint)
    with pytest.raises(ValueError, match=r"step 7: codec differs: .* '\w{16}', this run has '\w{16}'; resume=never"):
        build().on_load_checkpoint(checkpoint)


def test_disturbed_frames_change_whole():
    codes = torch.full((40, 50, 2), 7)
    changed = (corrupt_history(codes, probability=0.3, size=7) != codes).float()
    assert torch.equal(changed[..., 0], changed[..., 1])
    assert 0.25 < changed.mean() < 0.35


def two_speakers(other):
    """The clips of `batch`, of which two are spoken by somebody whose tones are two bins higher. other: of each row the row whose
    clip is its reference."""
    clips = batch()
    clips.mel[2:] = clips.mel[2:].roll(2, dims=2)
    clips.speakers = torch.tensor([0, 0, 1, 1])
    clips.audio = [f"{speaker}/{text}" for speaker, text in zip((0, 0, 1, 1), TEXTS, strict=True)]
    rows = torch.tensor(other)
    clips.references = replace(
        clips, mel=clips.mel[rows], mel_lengths=clips.mel_lengths[rows], audio=[clips.audio[row] for row in other]
    )
    return clips


def test_a_talker_learns_a_voice_from_another_clip():
    """Only references tell the speakers of these texts apart; numbers work, too."""
    torch.manual_seed(0)
    stage = build_talker_stage(lambda talker, codec: Echo(lambda text: None), speaker_vector=True, num_speakers=2)
    clips = two_speakers([1, 0, 3, 2])
    first = learn(stage, 1, lambda: clips)
    assert learn(stage, 150, lambda: clips) < 0.5 * first
    with torch.no_grad():
        own = float(stage.step(clips)["codebook_0"])
        theirs = float(stage.step(two_speakers([3, 2, 1, 0]))["codebook_0"])
        numbers = float(stage.step(replace(clips, references=None))["codebook_0"])
    assert theirs > 2 * own and numbers < 1.5 * own
    voices = stage.evaluator._voices(clips)
    assert [voice.source for voice in voices] == clips.references.audio and voices[0].vector.shape == (32,)
    assert stage.evaluator._voices(replace(clips, references=None)) == [0, 0, 1, 1]


def test_a_voice_of_a_clip_needs_references_in_training_and_they_a_talker_that_takes_them():
    stage = build_talker_stage(lambda talker, codec: None, speaker_vector=True)
    with pytest.raises(ValueError, match=r"speaker_vector=true and datamodule\.references=false"):
        stage.train().step(batch())
    assert stage.eval().step(batch())["codebook_0"] > 0, "an evaluation by numbers"
    with pytest.raises(ValueError, match=r"speaker_vector=false and datamodule\.references=true"):
        build_talker_stage(lambda talker, codec: None).train().step(two_speakers([1, 0, 3, 2]))


@pytest.mark.parametrize("pattern", ["delay", "depth"])
def test_a_talker_learns_codes_that_follow_each_other(pattern):
    """And says them."""
    torch.manual_seed(0)
    stage = build_talker_stage(
        lambda talker, codec: None, alignment="durations", max_frames=12, characters="abc", pattern=pattern
    )
    learn(stage, 150)
    clips = batch()
    codes, _ = stage.codes(clips)
    said, _ = Speaker(stage.model.eval(), stage.codec, SimpleNamespace(spec=SimpleNamespace(**MEL))).say(TEXTS, [0] * 4)
    assert torch.stack(said).eq(codes).float().mean() > 0.9


@pytest.mark.skipif(importlib.util.find_spec("espeakng_loader") is None, reason="pip install 'muomni[world]'")
@pytest.mark.parametrize("alignment", ["free", "durations"])
def test_a_talker_learns_from_phonemes(alignment):
    """Of "abc" and the like, a word each; what is aligned and judged are letters."""
    torch.manual_seed(0)
    stage = build_talker_stage(lambda talker, codec: None, alignment=alignment, max_frames=12, reads="phonemes")
    counts = stage.target_counts(batch())
    read = stage._as_read(batch())
    count = int(read.character_lengths.sum())
    assert count > 12 and count in (counts.get("place"), counts.get("duration", 0) - 8)
    assert stage._char_times(read).shape[1] == read.characters.shape[1] + 2 * (alignment == "durations")
    first = learn(stage, 1)
    assert learn(stage, 150) < 0.5 * first
    if alignment == "free":  # its stop takes more steps
        return
    codes, _ = stage.codes(batch())
    said, _ = Speaker(stage.model.eval(), stage.codec, SimpleNamespace(spec=SimpleNamespace(**MEL))).say(TEXTS, [0] * 4)
    assert all(len(row) == 6 for row in said) and torch.stack(said).eq(codes).float().mean() > 0.8
