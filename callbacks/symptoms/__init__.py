"""Symptoms of a training that runs but learns nothing, or something else than it should, each with a remedy; the doctor
(callbacks/doctor.py) checks them. One symptom a file.
"""

from callbacks.symptoms.base import Observe, Symptom
from callbacks.symptoms.cut_audio import CutAudio
from callbacks.symptoms.dead_codes import DeadCodes
from callbacks.symptoms.frozen_modules import FrozenModules
from callbacks.symptoms.high_rate import HighRate
from callbacks.symptoms.lost_codebooks import LostCodebooks
from callbacks.symptoms.no_gradient import NoGradient
from callbacks.symptoms.one_class import OneClass
from callbacks.symptoms.scale_mismatch import ScaleMismatch
from callbacks.symptoms.shifted_labels import ShiftedLabels
from callbacks.symptoms.stuck_at_chance import StuckAtChance
from callbacks.symptoms.stuck_on_blank import StuckOnBlank
from callbacks.symptoms.without_optimizer import WithoutOptimizer

__all__ = [
    "CutAudio",
    "DeadCodes",
    "FrozenModules",
    "HighRate",
    "LostCodebooks",
    "NoGradient",
    "Observe",
    "OneClass",
    "ScaleMismatch",
    "ShiftedLabels",
    "StuckAtChance",
    "StuckOnBlank",
    "Symptom",
    "WithoutOptimizer",
]
