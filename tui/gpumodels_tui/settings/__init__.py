"""What the user chose: every option and command in one table, and flag, environment, files and default in that order."""
