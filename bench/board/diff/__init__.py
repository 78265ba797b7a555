"""Two sets of records side by side: matched cells, what moved between them and why, and a gate on regressions.

Cells that only served to choose hyper-parameters are left out, as in the tables of the boards.
"""
