"""The command `doctor`: checks of all that the viewer and the sidecars need, and a file of them for bug reports."""
