"""Examples: tasks, sources, splits, templates, label words and batches."""
