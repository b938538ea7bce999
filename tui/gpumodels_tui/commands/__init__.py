"""What the screens' command and the commands of `settings.table` do, a module each; each imports what it needs when it runs."""
