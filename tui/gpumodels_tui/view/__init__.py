"""From snapshots, GPUs and model files to what is shown, as immutable rows. Knows no Textual."""
