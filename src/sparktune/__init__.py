"""sparktune: holds the host settings of GB10 machines."""

__version__ = "0.1.0"
