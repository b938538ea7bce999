"""Who holds a model: the references that keep it in memory, found only when a viewer asks."""
