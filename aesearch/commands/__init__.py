"""Commands of ``python -m aesearch``, one a file.

Each is given its parsed options and returns an exit status.
"""
