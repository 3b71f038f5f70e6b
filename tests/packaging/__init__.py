"""What `nox -s build` checks of the packages that a release consists of."""
