"""Compare maps with the exact attributions of networks that have them."""
