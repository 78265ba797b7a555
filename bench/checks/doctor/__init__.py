"""`bench doctor`: whether this machine, or every host of a hostfile, is fit to run, and what to do where it is not.

`probe` finds facts on a host, `meeting` lets hosts connect to each other, `examine` asks all of them, `checks` turns
facts into findings, and `session` prints these.
"""
