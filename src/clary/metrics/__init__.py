"""Counters, histograms, time series, statistics."""
