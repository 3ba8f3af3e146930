"""Settings of the training service and of the runners it starts."""

from dataclasses import dataclass

from luthier_kit.settings import ServiceSettings, SettingsError, setting


@dataclass(frozen=True)
class TrainingSettings(ServiceSettings):
    """What the environment says. `device` has no default: the CPU is a choice, never a silent fallback."""

    device: str = setting("DEVICE", choices=("cuda", "cpu"), help="cuda or cpu: where training computes")
    threads: int = setting(
        "LUTHIER_TRAINING_THREADS", default=0, low=0, high=256, help="torch threads; 0 = by the size of the model"
    )
    launcher: str = setting(
        "LUTHIER_TRAINING_LAUNCHER", default="local", choices=("local", "kubernetes"), help="who starts runners"
    )
    runners: int = setting("LUTHIER_TRAINING_RUNNERS", default=1, low=1, high=64, help="runs at a time, local launcher")
    processes: int = setting(
        "LUTHIER_TRAINING_PROCESSES", default=1, low=1, high=64, help="of a run; a Job with GPUs has one for each"
    )
    job_template: str = setting("LUTHIER_JOB_TEMPLATE", default="", help="file with the Job of a run")
    job_owner: str = setting(
        "LUTHIER_JOB_OWNER", default="", help="ConfigMap that Jobs are deleted with; empty = they stay"
    )
    namespace: str = setting("LUTHIER_NAMESPACE", default="", help="of Jobs; empty = the Pod's own, or the context's")


def check_device(device: str) -> None:
    """SettingsError when cuda was asked for and there is none."""
    if device != "cuda":
        return
    import torch  # 5 s: only the one who needs to know pays

    if not torch.cuda.is_available():
        raise SettingsError("DEVICE=cuda, but torch finds no CUDA device; DEVICE=cpu is the other choice")
