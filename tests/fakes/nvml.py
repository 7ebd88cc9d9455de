"""A fake of ``pynvml`` (package ``nvidia-ml-py``)."""

from __future__ import annotations


class NVMLError(Exception):
    """As there."""


class FakeNvml:
    """One GPU at bus 0000:01:00.0 that runs at 1500 MHz; ``reasons`` are given one after the other, the last for ever."""

    NVML_CLOCK_SM = 1
    NVML_CLOCK_MEM = 2
    NVML_TEMPERATURE_GPU = 0

    def __init__(self, reasons: tuple[int, ...] = (0,), starts: bool = True, fails_after: int | None = None) -> None:
        self._reasons, self._starts, self._fails_after = list(reasons), starts, fails_after
        self.users = 0
        self.samples = 0

    def nvmlInit(self) -> None:
        if not self._starts:
            raise NVMLError("NVML Shared Library Not Found")
        self.users += 1

    def nvmlShutdown(self) -> None:
        self.users -= 1

    def nvmlDeviceGetHandleByPciBusId(self, pciBusId: bytes) -> str:
        assert pciBusId == b"0000:01:00.0"
        return "device"

    def nvmlDeviceGetClockInfo(self, handle: str, type: int) -> int:
        assert self.users == 1
        if self._fails_after is not None and self.samples >= self._fails_after:
            raise NVMLError("GPU is lost")
        return {self.NVML_CLOCK_SM: 1500, self.NVML_CLOCK_MEM: 2600}[type]

    def nvmlDeviceGetPowerUsage(self, handle: str) -> int:
        return 350_000

    def nvmlDeviceGetTemperature(self, handle: str, sensor: int) -> int:
        return 60 + self.samples

    def nvmlDeviceGetCurrentClocksEventReasons(self, handle: str) -> int:
        self.samples += 1
        return self._reasons.pop(0) if len(self._reasons) > 1 else self._reasons[0]
