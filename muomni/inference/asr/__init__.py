"""Speech to text: CTC decoding, language models, long recordings, alignment."""
