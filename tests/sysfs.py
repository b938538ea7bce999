"""A machine's /sys and /proc in a directory, as the kernel lays them out."""

from __future__ import annotations

from pathlib import Path

from gpumodels_tui.sources.kernel_files import KernelFiles
from snapshots import GIB

NAVI = 0x744C
ARC = 0x56A0


class FakeKernel:
    """Files below a root that stands for the machine's."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.files = KernelFiles(root)
        (root / "proc").mkdir(exist_ok=True)

    def write(self, path: str, content: str | int) -> Path:
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(f"{content}\n", encoding="utf-8")
        return target

    def card(self, number: int, address: str, vendor: int, driver: str, device: int = NAVI, **said: str | int) -> str:
        """A card of DRM; its directory below the root."""
        bus = f"sys/devices/pci0000:00/{address}"
        self.write(f"{bus}/vendor", f"{vendor:#06x}")
        self.write(f"{bus}/device", f"{device:#06x}")
        self.write(f"{bus}/uevent", f"DRIVER={driver}\nPCI_CLASS=30000\nPCI_SLOT_NAME={address}")
        for name, value in said.items():
            self.write(f"{bus}/{name}", value)
        folder = self.root / f"sys/class/drm/card{number}"
        folder.mkdir(parents=True)
        (folder / "device").symlink_to(self.root / bus)
        (self.root / f"sys/class/drm/card{number}-DP-1").mkdir()
        return bus

    def amd(self, number: int, address: str, *, used: int = 3 * GIB, unique_id: str | None = None) -> str:
        bus = self.card(
            number, address, 0x1002, "amdgpu", mem_info_vram_total=24 * GIB, mem_info_vram_used=used, gpu_busy_percent=41
        )
        if unique_id is not None:
            self.write(f"{bus}/unique_id", unique_id)
        self.write(f"{bus}/hwmon/hwmon3/temp1_input", 56_400)
        self.write(f"{bus}/hwmon/hwmon3/power1_average", 213_000_000)
        return bus

    def node(self, number: int, gpu_id: int, location: int, simds: int = 96, domain: int = 0) -> None:
        folder = f"sys/class/kfd/kfd/topology/nodes/{number}"
        self.write(f"{folder}/gpu_id", gpu_id)
        self.write(f"{folder}/properties", f"cpu_cores_count 0\nsimd_count {simds}\nlocation_id {location}\ndomain {domain}")

    def client(self, pid: int, descriptor: int, said: str, device: str = "/dev/dri/renderD128") -> None:
        """A descriptor of a process that is open on a device."""
        folder = self.root / f"proc/{pid}/fd"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / str(descriptor)).symlink_to(device)
        self.write(f"proc/{pid}/fdinfo/{descriptor}", f"pos:\t0\nflags:\t02100002\n{said}")


def fdinfo(address: str, client: int, **said: str) -> str:
    """What the kernel tells of one client of a card."""
    lines = [f"drm-driver:\tamdgpu\ndrm-pdev:\t{address}\ndrm-client-id:\t{client}"]
    return "\n".join([*lines, *(f"drm-{name.replace('_', '-')}:\t{value}" for name, value in said.items())])
