"""Log groups, streams and events on disk."""
