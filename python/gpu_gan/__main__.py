"""Runs the program with the arguments after `python -m gpu_gan`."""

import os
import subprocess
import sys

from gpu_gan import find_program


def main():
    """Replaces this process by the program, or waits for it where processes cannot be replaced."""
    try:
        program = find_program()
    except FileNotFoundError as error:
        sys.exit(f"error: {error}")
    if os.name == "nt":
        sys.exit(subprocess.run([program, *sys.argv[1:]]).returncode)
    os.execv(program, [program, *sys.argv[1:]])


if __name__ == "__main__":
    main()
