"""Finds who else is told to set what sparktune sets. Files are read; nothing is run, nothing is changed."""
