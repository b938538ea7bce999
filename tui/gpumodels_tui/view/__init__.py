"""Turns snapshots, GPU readings and model files into immutable rows for the screens. Doesn't import Textual."""
