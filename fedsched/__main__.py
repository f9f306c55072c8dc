"""`python -m fedsched` is the command line."""

from fedsched.sim.cli import main

if __name__ == "__main__":
    main()
