"""What can be known of a process from outside: the model files that it has mapped or open, its arguments, its server."""
