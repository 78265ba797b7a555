"""Dry launch: what a cell needs on each rank, before anything is started."""
