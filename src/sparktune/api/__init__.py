"""The read-only REST API: its own unprivileged process over the published files and the history.

Nothing here may write to the host, talk to the control socket or be imported by the daemon.
"""
