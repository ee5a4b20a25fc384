"""Words of a command line mean to Hydra what they meant to whoever typed them."""

import unicodedata

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from muomni.cli.help import CONF
from muomni.cli.overrides import quote, readable

NAMES = ["données/é.jsonl", "a,b.jsonl", "it (1).jsonl", "epoch=1-step=2.jsonl", "[a].jsonl", "{x}.jsonl", "7", "1e5",
         'say "hi".txt', "it's.txt", "a\\b.txt", 'ends\\"', "back\\", " two  spaces ", "数据.jsonl", "$x.txt", "null.txt",
         "a:b.txt", "~x", "100%.txt", "#1.txt", "a&b;c|d.txt", "😀.jsonl"]  # fmt: skip


def value(key, *words):
    overrides = [each for word in words for each in readable(word, multirun=False)]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose("train", overrides=overrides)
    found = OmegaConf.select(cfg, key)
    return OmegaConf.to_container(found) if OmegaConf.is_config(found) else found


@pytest.mark.parametrize("name", NAMES)
def test_any_name_of_a_file_is_taken_as_it_is(name):
    (word,) = readable(f"data.train={name}", multirun=False)
    assert OverridesParser.create().parse_override(word).value() == name


def test_many_names_at_once():
    assert value("resume", "resume=runs/x/epoch=1-step=2.ckpt") == "runs/x/epoch=1-step=2.ckpt"
    assert value("data.test", "data=text", "data.test={a: données/é.jsonl, b:x.jsonl}") == {
        "a": "données/é.jsonl", "b": "x.jsonl",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("words", "test"),
    [
        (["experiment=an4", "data.test={hidden: x.jsonl}"], {"hidden": "x.jsonl"}),
        (["experiment=an4", "data.test={hidden:x.jsonl}"], {"hidden": "x.jsonl"}),
        (["data=text", "data.test={hidden: x.jsonl}"], {"hidden": "x.jsonl"}),
        (["data=text", "data.test.hidden=x.jsonl"], {"hidden": "x.jsonl"}),
        (["data=text", "data.test=x.jsonl"], "x.jsonl"),
        (["experiment=an4", "data.test=x.jsonl"], "x.jsonl"),
        (["experiment=an4", "data.test=null"], None),
    ],
)
def test_the_tests_are_those_that_are_named(words, test):
    assert value("data.test", *words) == test


def test_tasks_of_ones_own_get_a_share():
    assert value("datamodule.shares", "stage=omni_sft", "datamodule.shares={mine: 0.5}")["mine"] == 0.5
    assert value("datamodule.shares", "stage=omni_sft", "datamodule.shares.mine=0.5")["mine"] == 0.5


@pytest.mark.parametrize(
    ("word", "key", "meant"),
    [
        ("judge=own", "whisper", None),
        ("judge=whisper", "whisper", "auto"),
        ("judge=whisper:small.en", "whisper", "small.en"),
        ("judge=whisper:models/my whisper", "whisper", "models/my whisper"),
        ("judge=elsewhere", "judge", "elsewhere"),
    ],
)
def test_who_judges_speech(word, key, meant):
    (override,) = readable(word, multirun=False)
    parsed = OverridesParser.create().parse_override(override)
    assert (parsed.key_or_group, parsed.value()) == (key, meant)


def test_judges_can_be_a_list_of_trainings():
    assert readable("judge=own,whisper", multirun=True) == ["whisper=null,auto"]


def test_other_values_keep_their_kind():
    assert value("optim.lr", "optim.lr=1e-3") == 1e-3
    assert value("optim.betas", "optim.betas=[0.9,0.95]") == [0.9, 0.95]
    assert value("data.train", "data=text", "data.train=null") is None
    assert value("data.train", "data=text", "data.train='x y'") == "x y"
    assert readable("-m", multirun=True) == ["-m"] and readable("~callbacks.ema", multirun=False) == ["~callbacks.ema"]


def test_a_list_of_trainings_needs_m():
    with pytest.raises(
        ValueError, match=r"optim.lr=1e-3,3e-4: several values are a list of trainings, which -m begins"
    ):
        readable("optim.lr=1e-3,3e-4", multirun=False)
    assert readable("optim.lr=1e-3,3e-4", multirun=True) == ["optim.lr=1e-3,3e-4"]
    assert readable("data.train=é.txt,b.txt", multirun=True) == ['data.train="é.txt",b.txt']


@pytest.mark.parametrize("word", ["data.test={a: [}", "optim.betas=[0.9", "data.test={a b: é, c: 2}"])
def test_a_broken_list_is_said_in_our_words(word):
    with pytest.raises(ValueError, match=r"a list is \[A, B\], a mapping \{NAME: VALUE"):
        readable(word, multirun=False)


def test_another_spelling_of_a_name_is_found(tmp_path):
    (tmp_path / unicodedata.normalize("NFD", "données")).mkdir()
    (tmp_path / unicodedata.normalize("NFD", "données") / unicodedata.normalize("NFC", "é.jsonl")).touch()
    (there,) = readable(f"data.train={tmp_path}/données/{unicodedata.normalize('NFD', 'é')}.jsonl", multirun=False)
    name = there.removeprefix("data.train=").strip('"')
    assert name == f"{tmp_path}/{unicodedata.normalize('NFD', 'données')}/é.jsonl"


def test_quotes_hold_whatever_stands_in_them():
    assert quote('a"b') == r'"a\"b"' and quote("a\\") == '"a\\\\"'


def test_the_image_encoder_is_chosen_in_place_of_the_vision_backbone():
    assert readable("backbone.vision=conv", multirun=False) == ["image_encoder=conv"]
    assert readable("backbone/vision=vit", multirun=False) == ["image_encoder=vit"]
    overrides = ["stage=vision", "image_encoder=conv", "backbone.vision.dim=96", "image_encoder.widths=[8,16]"]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        conv = compose("train", overrides=overrides).module.model
    assert conv._target_ == "muomni.models.conv_vision.ConvEncoder"
    assert (conv.dim, conv.image_size, conv.widths) == (96, 72, [8, 16])


def test_one_model_of_another_size():
    thinker = value("backbone.thinker", "backbone/thinker=small", "backbone.thinker.num_heads=4")
    assert (thinker["dim"], thinker["max_length"], thinker["short_conv"], thinker["num_heads"]) == (512, 1024, 0, 4)
    assert value("backbone.vision.dim", "backbone/thinker=small") == value("backbone.vision.dim")
    assert readable("backbone/talker=nano,tiny", multirun=True)[0].count("text_layers") == 2
    for word in ("backbone/thinker=huge", "backbone/eyes=small"):
        with pytest.raises(ValueError, match=rf"^{word}: .* of thinker, .* size of base, nano, small, tiny$"):
            readable(word, multirun=False)
