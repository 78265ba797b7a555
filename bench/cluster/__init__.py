"""Hosts, slots, launchers, supervised ranks and leases."""
