"""What trained exports can do: recognition, hearing, loudness, vocoders."""
