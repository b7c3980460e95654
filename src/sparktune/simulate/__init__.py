"""A GB10 for those who have none: its /sys, /proc and /etc as plain files. Never touches the real ones."""
