"""From an export folder to text and sound: needs torch, never Lightning or Hydra."""
