"""Readers for the headers of model files, run in a separate process."""
