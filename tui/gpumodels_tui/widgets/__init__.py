"""The widgets of the screens. They draw rows and cells, and read no files or processes."""
