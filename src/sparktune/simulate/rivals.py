"""Configuration of other tuners on a simulated machine: some sets what sparktune sets, some does not."""

from __future__ import annotations

FILES = {
    "/etc/tuned/active_profile": "inference",
    "/etc/tuned/inference/tuned.conf": """\
[main]
summary=Large models, one user
include=desk

[disk]
readahead=4096
""",
    "/usr/lib/tuned/desk/tuned.conf": """\
[main]
summary=A machine on a desk

[cpu]
governor=performance
force_latency=cstate.id_no_zero:1|3

[disk]
# replaced by the profile that includes this one
readahead=>1024
""",
    "/etc/udev/rules.d/60-read-ahead.rules": """\
# Same value as sparktune's default.
ACTION=="add|change", SUBSYSTEM=="block", KERNEL=="nvme[0-9]*n[0-9]*", \\
  ATTR{queue/read_ahead_kb}="8192"
ACTION=="add|change", KERNEL=="sd[a-z]", ATTR{queue/read_ahead_kb}="256"
""",
    "/etc/systemd/system/idle-states.service": """\
[Unit]
Description=Shallow idle states only

[Service]
Type=oneshot
ExecStart=/usr/bin/cpupower idle-set -D 100
""",
    "/usr/lib/systemd/system/tuned.service": """\
[Service]
ExecStart=/usr/sbin/tuned -l -P
""",
    "/usr/lib/systemd/system/nv-cpu-governor.service": """\
[Service]
ExecStart=/usr/bin/cpupower frequency-set -g performance
""",
    "/usr/lib/systemd/system/power-profiles-daemon.service": """\
[Service]
ExecStart=/usr/libexec/power-profiles-daemon
""",
}
"""By the host's names for them."""

_ENABLED = (
    "/etc/systemd/system/idle-states.service",
    "/usr/lib/systemd/system/tuned.service",
    "/usr/lib/systemd/system/nv-cpu-governor.service",
    "/usr/lib/systemd/system/power-profiles-daemon.service",
)
LINKS = {f"/etc/systemd/system/multi-user.target.wants/{name.rpartition('/')[2]}": name for name in _ENABLED}
"""What enables the units."""
