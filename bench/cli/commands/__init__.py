"""The commands of `bench`: each parses, calls and prints. Heavy imports stay inside those that need them."""
