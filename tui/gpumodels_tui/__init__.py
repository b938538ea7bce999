"""The viewer: tails the sidecars' files, reads model files beside them, and shows which models are in which GPU's memory."""
