"""Starts, watches and stops instances on this machine (and others)."""
