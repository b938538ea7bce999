"""What the screens are made of. Widgets know rows and cells, no files and no processes."""
