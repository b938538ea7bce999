"""From models to snapshots in a file that viewers read."""
