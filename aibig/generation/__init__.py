"""What a language model is, and how it decodes: state, sampling, speculation, quantised matrices. Knows no text."""
