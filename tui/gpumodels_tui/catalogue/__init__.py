"""Facts from the headers of model files: directories are watched, and headers read in a separate process."""
