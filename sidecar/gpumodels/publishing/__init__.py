"""Turns models into snapshots, and writes these into the mapped file that viewers read."""
