"""Which name a model gets, from which evidence. The only room that decides it."""
