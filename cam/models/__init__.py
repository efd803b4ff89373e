"""Models by name, from a checkpoint, or of your own, with what an explanation needs beside them."""
