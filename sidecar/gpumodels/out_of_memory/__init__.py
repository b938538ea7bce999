"""Keeps what was in memory when an allocation failed."""
