"""What one module holds: its tensors, their storages, and bytes on each device."""
