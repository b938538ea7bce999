"""When a model last ran, or may have run: from calls of modules if the user asked for that, else from what costs nothing."""
