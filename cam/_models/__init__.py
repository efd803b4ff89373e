"""Load models and weights, with preprocessing and labels."""
