"""What the model files say of themselves: watched directories, headers read in a process of their own, facts by path."""
