"""Who starts runners; another way is a file with one more line here."""

from collections.abc import Callable

from luthier_training.launchers.launcher import Launcher
from luthier_training.launchers.local import LocalLauncher
from luthier_training.settings import TrainingSettings


def _kubernetes(settings: TrainingSettings) -> Launcher:
    from luthier_training.launchers.kubernetes_jobs import KubernetesLauncher  # its client takes 2 s and 60 MB

    return KubernetesLauncher(settings)


LAUNCHERS: dict[str, Callable[[TrainingSettings], Launcher]] = {"local": LocalLauncher, "kubernetes": _kubernetes}
