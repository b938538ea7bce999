"""Where tensors' values came from: which files the host read, what the files hold, and which tensors were loaded from them."""
