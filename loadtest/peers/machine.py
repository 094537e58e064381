"""What the figures were taken on. Standard library only."""

import os
import pathlib
import platform
import re

SYSCTLS = ["net.core.somaxconn", "net.core.wmem_max", "net.ipv4.tcp_wmem", "net.ipv4.tcp_rmem", "net.ipv4.tcp_mem"]


def read(path):
    try:
        return pathlib.Path(path).read_text().strip()
    except OSError:
        return ""


def machine():
    """Facts by name, in order."""
    model = re.search(r"model name\s*:\s*(.+)", read("/proc/cpuinfo"))
    memory = re.search(r"MemTotal:\s*(\d+)", read("/proc/meminfo"))
    facts = {
        "processor": model.group(1) if model else platform.machine(),
        "cores": str(os.cpu_count()),
        "memory": f"{int(memory.group(1)) / 1024 / 1024:.1f} GiB" if memory else "unknown",
        "kernel": f"Linux {platform.release()}",
    }
    name = re.search(r'PRETTY_NAME="(.+)"', read("/etc/os-release"))
    if name:
        facts["system"] = name.group(1)
    for key in SYSCTLS:
        value = " ".join(read("/proc/sys/" + key.replace(".", "/")).split())
        if value:
            facts[key] = value
    return facts
