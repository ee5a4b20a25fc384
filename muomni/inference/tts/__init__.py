"""Text to speech: Talker, codec, vocoders."""
