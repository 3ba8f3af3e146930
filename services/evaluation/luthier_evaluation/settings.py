"""Settings of the evaluation service, on top of what every service understands."""

from dataclasses import dataclass

from luthier_kit.rpc import PORTS, ServiceSettings, setting
from luthier_kit.store import StoreSettings


@dataclass(frozen=True)
class EvaluationSettings(ServiceSettings, StoreSettings):
    """Where the services are that it calls, and how much is asked of them at once."""

    inference_address: str = setting(
        "LUTHIER_INFERENCE_ADDRESS", default=f"127.0.0.1:{PORTS['inference']}", help="host:port of inference"
    )
    analysis_address: str = setting(
        "LUTHIER_ANALYSIS_ADDRESS", default=f"127.0.0.1:{PORTS['analysis']}", help="host:port of analysis"
    )
    rows_in_flight: int = setting(
        "LUTHIER_ROWS_IN_FLIGHT", default=2, low=1, high=256, help="rows of one evaluation worked on at once"
    )
    generate_timeout_s: float = setting(
        "LUTHIER_GENERATE_TIMEOUT_S", default=1800.0, low=1, high=86400, help="longest single Generate"
    )
    retry_budget_s: float = setting(
        "LUTHIER_PATIENCE_S", default=300.0, low=0, high=86400, help="how long a service that is down is tried again"
    )
    promotion_rule: str = setting(
        "LUTHIER_PROMOTION_RULE", default="", help="file of the promotion rule; empty = the strict one that ships"
    )
    metric_weights: str = setting(
        "LUTHIER_METRIC_WEIGHTS",
        default="",
        help="folder of embedders' weights, NAME.safetensors, which go before the store's; empty = the store's alone",
    )
