"""The viewer: follows the sidecars' files, reads model files, and shows which models are in which GPU's memory."""
