"""Recordings on the ordinary screens, with pause, speed and seeking."""
