"""``python -m tunelab``: the command where it is not on the path."""

from tunelab.cli import main

if __name__ == "__main__":
    main()
