"""The virtual Spark: guests with a real kernel and a real systemd, and the scenarios that are run in them."""
