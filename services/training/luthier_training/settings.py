"""Settings of the training service and of the runners it starts."""

from dataclasses import dataclass

from luthier_kit.rpc import ServiceSettings, setting
from luthier_kit.store import StoreSettings


@dataclass(frozen=True)
class DeviceSettings(ServiceSettings, StoreSettings):
    """What service and runner both read. `device` has no default: the CPU is a choice, never a silent fallback."""

    device: str = setting("DEVICE", choices=("cuda", "cpu"), help="cuda or cpu: where training computes")
    threads: int = setting(
        "LUTHIER_TRAINING_THREADS", default=0, low=0, high=256, help="torch threads; 0 = by the size of the model"
    )

    def device_faults(self) -> list[str]:
        """For the machine that computes."""
        if self.device == "cpu":
            return []
        import torch  # 5 s: only the one who needs to know pays

        if torch.cuda.is_available():
            return []
        return ["DEVICE=cuda, but torch finds no CUDA device; DEVICE=cpu is the other choice"]


@dataclass(frozen=True)
class RunnerSettings(DeviceSettings):
    """What a runner reads."""

    def faults(self) -> list[str]:
        return super().faults() + self.device_faults()


@dataclass(frozen=True)
class TrainingSettings(DeviceSettings):
    """What the service reads."""

    launcher: str = setting(
        "LUTHIER_TRAINING_LAUNCHER", default="local", choices=("local", "kubernetes"), help="who starts runners"
    )
    runners: int = setting("LUTHIER_TRAINING_RUNNERS", default=1, low=1, high=64, help="runs at a time, local launcher")
    processes: int = setting(
        "LUTHIER_TRAINING_PROCESSES", default=1, low=1, high=64, help="of a run; a Job with GPUs has one for each"
    )
    job_template: str = setting("LUTHIER_JOB_TEMPLATE", default="", path="file", help="file with the Job of a run")
    job_owner: str = setting(
        "LUTHIER_JOB_OWNER", default="", help="ConfigMap that Jobs are deleted with; empty = they stay"
    )
    namespace: str = setting("LUTHIER_NAMESPACE", default="", help="of Jobs; empty = the Pod's own, or the context's")

    def faults(self) -> list[str]:
        faults = super().faults()
        if self.launcher == "local":  # a Job's Pods look for their own device
            faults += self.device_faults()
        elif not self.job_template:
            faults.append("LUTHIER_JOB_TEMPLATE is missing: the file with the Job of a training run")
        return faults
