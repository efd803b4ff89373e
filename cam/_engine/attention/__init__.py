"""Record the attention of transformers."""
