"""Recordings: what the sources said over time, in files and in the ring that services keep. Knows no Textual."""
