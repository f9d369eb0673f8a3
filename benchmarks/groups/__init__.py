"""The groups of measurements, one for each row or two of the table of targets."""
