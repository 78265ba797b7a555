"""The command `bench`: it parses arguments, calls the packages below and prints what they return."""
