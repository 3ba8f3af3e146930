"""The values that tests render: both profiles, and each optional feature alone on values-try.yaml."""

from typing import Any

GPU = {"selector": {"pool": "gpu"}, "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists"}], "gpus": 1}
MODEL = {"claim": "models", "path": "/models/qwen", "name": "qwen"}
SCALED = {"autoscaling": {"enabled": True}}
PROMETHEUS = {"address": "http://prometheus.monitoring.svc:9090", "matchers": 'namespace="music"'}

SWITCHES: dict[str, dict[str, Any]] = {
    "sqlite": {"database": {"existingSecret": ""}, "tryout": {"postgresql": {"enabled": False}}},
    "external-store": {"tryout": {"minio": {"enabled": False}}, "store": {"s3": {"endpoint": "s3.example.org"}}},
    "scaled-rendering": {"services": {"rendering": SCALED}, "prometheus": PROMETHEUS},
    "scaled-inference": {"services": {"inference": SCALED}, "prometheus": PROMETHEUS},
    "vllm": {"llm": {"vllm": {"enabled": True, "model": MODEL}}},
    "scaled-vllm": {"llm": {"vllm": {"enabled": True, "model": MODEL, **SCALED}}, "prometheus": PROMETHEUS},
    "external-llm": {
        "llm": {"external": {"url": "https://llm.example.org/v1", "model": "qwen", "existingSecret": "llm"}}
    },
    "credentials": {
        "credentials": {
            "existingSecret": "c2pa",
            "watermark": {"program": "/opt/audiowmark", "existingSecret": "watermark-key"},
        }
    },
    "callers": {"auth": {"callersSecret": "callers", "tokenSecret": "tokens", "callerInFlight": 4}},
    "tls": {"tls": {"secret": "tls"}},
    "mutual-tls": {"tls": {"secret": "tls", "clientAuth": "mutual"}},
    "telemetry": {"telemetry": {"otlpEndpoint": "http://collector.monitoring.svc:4318"}},
    "monitored": {
        "prometheus": {
            "scrapers": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}],
            "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
            "rules": {"enabled": True, "labels": {"release": "prometheus"}},
        },
        "llm": {"vllm": {"enabled": True, "model": MODEL}},
        "dashboards": {"enabled": True},
    },
    "ingress": {
        "services": {
            "inference": {
                "ingress": {"enabled": True, "className": "nginx", "host": "generate.example.org", "tlsSecret": "tls"},
                "grpcRoute": {"enabled": True, "parentRefs": [{"name": "gateway"}], "hostnames": ["g.example.org"]},
            },
            "curation": {
                "ingress": {"enabled": True, "host": "page.example.org"},
                "grpcRoute": {"enabled": True, "parentRefs": [{"name": "gateway"}]},
            },
        }
    },
    "http": {
        "services": {
            "inference": {
                "serves": ["grpc", "web"],
                "webCallers": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "ingress"}}}],
                "ingress": {"enabled": True, "host": "generate.example.org", "port": "web"},
                "env": {"LUTHIER_WEB_ORIGINS": "https://generate.example.org"},
            }
        }
    },
    "queues": {"pipeline": {"queue": "cpu"}, "training": {"queue": "gpu", "nodePool": "gpu"}},
    "gpu-pool": {
        "nodePools": {"gpu": {**GPU, "gpus": 2, "runtimeClass": "nvidia"}},
        "services": {"inference": {"nodePool": "gpu"}},
    },
    "own-keys": {"store": {"s3": {"componentSecrets": {"rendering": "s3-rendering", "expiry": "s3-expiry"}}}},
    "nothing-expires": {"expiry": {"enabled": False}},
    "expected-store": {"store": {"s3": {"expected": True}}},
    "no-policies": {"networkPolicy": {"enabled": False}},
    "private-registry": {"image": {"registry": "my-registry/luthier", "tag": "1.2", "pullSecrets": ["registry"]}},
    "own-files": {
        "services": {
            "enrichment": {"secretFiles": {"LUTHIER_LASTFM_API_KEY": {"secret": "lastfm", "key": "api-key"}}},
            "rendering": {
                "volumes": [
                    {"name": "fonts", "persistentVolumeClaim": {"claimName": "fonts", "readOnly": True}},
                    {"name": "map", "configMap": {"name": "instruments"}},
                ],
                "volumeMounts": [
                    {"name": "fonts", "mountPath": "/fonts", "readOnly": True},
                    {"name": "map", "mountPath": "/instruments", "readOnly": True},
                ],
                "env": {
                    "LUTHIER_SOUNDFONT": "/fonts/a.sf2",
                    "LUTHIER_SOUNDFONT_PATH": "/fonts",
                    "LUTHIER_INSTRUMENT_MAP": "/instruments/map.yaml",
                    "LUTHIER_SLOTS": 4,
                },
                "podAnnotations": {"example.org/why": "fonts"},
            },
        }
    },
}

VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "try": ("try", {}),
    "production": ("production", {}),
    **{name: ("try", values) for name, values in SWITCHES.items()},
}
