"""Clary speaks the AWS SageMaker inference APIs and really runs the models."""

__version__ = "0.1.0"
