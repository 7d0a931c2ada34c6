"""`python -m tracestill` is `tracestill`."""

from tracestill.commands.app import main

main()
