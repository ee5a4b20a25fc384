"""Folders of small random encoders, as transformers' save_pretrained writes them, with their preprocessing."""

import json
from pathlib import Path

import pytest
import torch

SHAPE = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
IMAGE = {"image_size": 32, "patch_size": 8}
TEXT = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 4, "vocab_size": 50,
        "bos_token_id": 1, "eos_token_id": 2}  # fmt: skip
WAVEFORM = SHAPE | {"conv_dim": [16, 16], "conv_kernel": [10, 3], "conv_stride": [5, 2], "num_conv_pos_embeddings": 4,
                    "num_conv_pos_embedding_groups": 2, "vocab_size": 8}  # fmt: skip
LAYER_NORM = {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True}
WHISPER = {"d_model": 32, "encoder_layers": 2, "encoder_attention_heads": 4, "encoder_ffn_dim": 64, "decoder_layers": 1,
           "decoder_attention_heads": 4, "decoder_ffn_dim": 64, "max_source_positions": 50, "max_target_positions": 20,
           "vocab_size": 60, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
           "decoder_start_token_id": 1}  # fmt: skip
SQUASH = {"size": {"height": 32, "width": 32}, "do_center_crop": False}
CROP = {"size": {"shortest_edge": 36}, "crop_size": {"height": 32, "width": 32}, "resample": 3}
VOCABULARY = {"<pad>": 0, "<s>": 1, "</s>": 2, "<unk>": 3, "|": 4, "B": 6, "A": 5, "'": 7}

#: name -> class of transformers, its configuration, and preprocessor_config.json.
IMAGES = {
    "clip": ("CLIPModel", {"vision_config": SHAPE | IMAGE, "text_config": TEXT}, CROP),
    "clip_tower": ("CLIPVisionModel", SHAPE | IMAGE, CROP),
    "siglip": ("SiglipModel", {"vision_config": SHAPE | IMAGE, "text_config": TEXT}, SQUASH),
    "siglip_tower": ("SiglipVisionModel", SHAPE | IMAGE | {"vision_use_head": False}, SQUASH),
    "dinov2": ("Dinov2Model", SHAPE | IMAGE | {"image_size": 48}, CROP),
    "dinov2_labels": ("Dinov2ForImageClassification", SHAPE | IMAGE | {"use_swiglu_ffn": True}, CROP),
    "vit": ("ViTModel", SHAPE | IMAGE, SQUASH),
    "vit_labels": ("ViTForImageClassification", SHAPE | IMAGE | {"image_size": 48}, SQUASH),
}
AUDIOS = {
    "whisper": ("WhisperForConditionalGeneration", WHISPER, {"chunk_length": 1}),
    "whisper_128": ("WhisperModel", WHISPER | {"num_mel_bins": 128}, {"chunk_length": 1, "feature_size": 128}),
    "wav2vec2": ("Wav2Vec2Model", WAVEFORM, {"do_normalize": True}),
    "wav2vec2_layer": ("Wav2Vec2ForPreTraining", WAVEFORM | LAYER_NORM, {"do_normalize": False}),
    "wav2vec2_letters": ("Wav2Vec2ForCTC", WAVEFORM | LAYER_NORM, {}),
    "hubert": ("HubertModel", WAVEFORM, {"do_normalize": True}),
    "hubert_letters": ("HubertForCTC", WAVEFORM, {}),
}


def make(folder: Path, name: str):
    """Write the folder; the model of transformers, in eval mode."""
    transformers = pytest.importorskip("transformers")
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    model_class, config, preprocessor = (IMAGES | AUDIOS)[name]
    cls = getattr(transformers, model_class)
    torch.manual_seed(0)
    model = cls(cls.config_class(**config)).eval()
    with torch.no_grad():
        for parameter in model.parameters():  # biases and norms too, which else would be 0 and 1
            parameter.add_(torch.randn_like(parameter) * 0.05)
    model.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(preprocessor))
    (folder / "vocab.json").write_text(json.dumps(VOCABULARY))
    return model


def edit_json(path: Path, **values):
    """Change values of a JSON file; None removes one."""
    content = json.loads(path.read_text()) | values
    path.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))
