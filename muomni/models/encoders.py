"""Image and audio encoders that can take each other's place: what they return, and the sizes that they name, are the same."""

from muomni.models.audio import Audio
from muomni.models.conv_vision import ConvEncoder
from muomni.models.hf_audio import HfAudio
from muomni.models.hf_vision import HfVision
from muomni.models.vision import VisionTransformer

ImageEncoder = VisionTransformer | ConvEncoder | HfVision
AudioEncoder = Audio | HfAudio
