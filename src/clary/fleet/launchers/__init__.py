"""Ways to start an instance: a process today; containers and Ray later."""
