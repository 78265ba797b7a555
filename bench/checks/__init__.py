"""What to run before a matrix: gradients (preflight), memory (plan) and hosts (doctor)."""
