"""Where values come from: which files the host read, what they hold, and which tensors were made from them."""
