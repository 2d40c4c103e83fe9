"""The benchmark: methods side by side, each in a process that is ended in time, every interval checked again.

``aigc-opt bench FOLDER`` runs it on any folder of instance files; the repository's ``python -m benchmarks`` on all
committed instances, on generated families and, for building programs, beside other modelling libraries.
"""
