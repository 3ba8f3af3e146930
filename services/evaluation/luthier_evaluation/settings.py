"""Settings of the evaluation service, on top of what every service understands."""

from dataclasses import dataclass

from luthier_kit.settings import ServiceSettings, setting


@dataclass(frozen=True)
class EvaluationSettings(ServiceSettings):
    """Where the services that it asks are, and how much is asked of them at once."""

    inference_address: str = setting(
        "LUTHIER_INFERENCE_ADDRESS", default="127.0.0.1:7107", help="host:port of inference"
    )
    analysis_address: str = setting("LUTHIER_ANALYSIS_ADDRESS", default="127.0.0.1:7102", help="host:port of analysis")
    rows_in_flight: int = setting(
        "LUTHIER_ROWS_IN_FLIGHT", default=2, low=1, high=256, help="rows of one evaluation worked on at once"
    )
    generate_timeout_s: float = setting(
        "LUTHIER_GENERATE_TIMEOUT_S", default=1800.0, low=1, high=86400, help="longest single Generate"
    )
    patience_s: float = setting(
        "LUTHIER_PATIENCE_S", default=300.0, low=0, high=86400, help="how long a backend that is down is waited for"
    )
