"""The only code that opens /sys, /proc, netlink, ioctl and fanotify. Nothing here judges what it reads."""
