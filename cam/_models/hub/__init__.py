"""Read checkpoints of Hugging Face without running their code."""
