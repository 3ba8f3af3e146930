"""The services and the port that each listens on by default; metrics are a hundred higher."""

PORTS = {
    "rendering": 7101,
    "analysis": 7102,
    "enrichment": 7103,
    "prompting": 7104,
    "curation": 7105,
    "training": 7106,
    "inference": 7107,
    "evaluation": 7108,
}
METRICS_OFFSET = 100
WEB_PORT = 7300  # curation's page
