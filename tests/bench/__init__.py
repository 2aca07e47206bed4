"""What the broker costs: `make bench`, or `python -m tests.bench`. Nothing here is a test, nothing is judged."""
