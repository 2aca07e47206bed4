"""`python -m broker`: the same as the console script."""

from broker.cli import main

if __name__ == "__main__":
    main()
