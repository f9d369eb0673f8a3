"""Moves the data of transform jobs: input objects through the model to output objects."""
