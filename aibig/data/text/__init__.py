"""Texts: documents, tokenizers, windows of tokens, sentences with labels, word vectors. Knows no model."""
