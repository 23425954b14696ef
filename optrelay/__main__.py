"""`python -m optrelay`, for where the command itself is not on the PATH."""

from console.cli import main

if __name__ == "__main__":
    main()
