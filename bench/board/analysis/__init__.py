"""Statistics over records: groups, ranks, stability and means over tasks."""
