"""Handler styles: the functions of inference.py, or a server of the user's own."""
