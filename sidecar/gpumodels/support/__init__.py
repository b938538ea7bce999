"""What every room may use and what knows no model: failures, locks, weak references, slices of work, torch's private names."""
