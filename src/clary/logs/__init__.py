"""Log files of instances: found, read from their ends, followed."""
