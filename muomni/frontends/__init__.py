"""Signal <-> tensor: the same code at training and at inference time. Needs torch, never Lightning or Hydra."""
