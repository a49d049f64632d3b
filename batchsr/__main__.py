"""`python -m batchsr`."""

from batchsr.cli import main

if __name__ == "__main__":
    main()
