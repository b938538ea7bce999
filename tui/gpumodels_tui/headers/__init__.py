"""What model files say of themselves, read in a process of its own."""
