"""One cell on a rank, from its backbone to its record."""

WORKER = f"{__name__}.worker"  # the module that every rank of a run executes; not imported here: it needs torch
