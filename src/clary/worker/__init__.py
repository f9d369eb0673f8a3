"""One process that holds a model and runs the user's handler; and the host that watches it."""
