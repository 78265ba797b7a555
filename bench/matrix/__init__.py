"""From a YAML file to cells: axes, protocols, ZeRO configurations and hyper-parameter search."""
