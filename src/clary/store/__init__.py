"""Durable state and its change feed."""
