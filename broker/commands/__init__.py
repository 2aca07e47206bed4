"""The commands of `broker`, one file each: `dry_run.py` holds `command`, which is `broker dry-run`.

The first line of a file's docstring is its line in `broker --help`, read without importing the file. A
command parses its arguments, calls the code that does the work and prints; it decides nothing.
"""
