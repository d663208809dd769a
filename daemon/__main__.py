"""`python -m daemon VERB`, the same as `bhavana VERB`."""

from daemon.cli import main

if __name__ == "__main__":
    main()
