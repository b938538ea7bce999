"""From modules to models: which belong together, what they hold by device and layer, and what else is in memory."""
