"""How much memory the reader of a Kuzu database may take: a share of the machine's or of its container's."""

from __future__ import annotations

import shutil
from pathlib import Path

from scriptorium.sources.kuzu import memory


def test_the_limit_is_the_containers_and_not_the_machines(tmp_path: Path) -> None:
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/meminfo").write_text("MemTotal: 99 kB\nMemAvailable: 99999999 kB\n")
    cgroup = tmp_path / "proc/self/cgroup"
    machine = memory.allowed(tmp_path)
    for lines, place, limit in [
        ("0::/app.slice/x\n", "sys/fs/cgroup/app.slice/memory.max", 700 << 20),  # version 2, the group above
        ("0::/\n", "sys/fs/cgroup/memory.max", 600 << 20),  # version 2, in a container
        ("5:cpu:/x\n4:memory:/docker/1\n", "sys/fs/cgroup/memory/docker/1/memory.limit_in_bytes", 500 << 20),
        ("4:memory:/docker/1\n", "sys/fs/cgroup/memory/memory.limit_in_bytes", 400 << 20),  # version 1, in a container
    ]:
        cgroup.write_text(lines)
        assert memory.allowed(tmp_path) == machine
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / place).write_text(f"{limit}\n")
        assert memory.allowed(tmp_path) == limit
        shutil.rmtree(tmp_path / "sys")
    cgroup.write_text("0::/\n")
    (tmp_path / "sys/fs/cgroup").mkdir(parents=True)
    (tmp_path / "sys/fs/cgroup/memory.max").write_text("max\n")
    assert memory.allowed(tmp_path) == machine


def test_the_pool_grows_in_steps_up_to_the_share_and_to_what_is_free(tmp_path: Path) -> None:
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "sys/fs/cgroup").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text("0::/\n")
    (tmp_path / "proc/meminfo").write_text(f"MemAvailable: {1 << 40} kB\n")
    (tmp_path / "sys/fs/cgroup/memory.max").write_text(str(3 << 30))
    assert memory.pools(0.5, tmp_path) == (256 << 20, 1 << 30, 3 << 29)
    assert memory.pools(1e-9, tmp_path) == (64 << 20,)
    (tmp_path / "proc/meminfo").write_text(f"MemAvailable: {1 << 20} kB\n")
    assert memory.pools(0.5, tmp_path) == (256 << 20, 1 << 30)
