"""What a language model is, and how it decodes: state, sampling, speculative decoding, quantization. Knows no text."""
