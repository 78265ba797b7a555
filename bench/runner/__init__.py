"""Many cells over groups of processes: where each runs, what feeds it, and what is watched."""
