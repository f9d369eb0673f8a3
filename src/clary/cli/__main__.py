"""``python -m clary.cli``: the same as the command."""

from clary.cli import main

if __name__ == "__main__":
    main()
