"""One module for each AWS wire protocol."""
