"""The values that tests render: both profiles, and each optional feature alone on values-try.yaml."""

from typing import Any

import yaml

from tests.chart.rendering import CHART

GPU = {"selector": {"pool": "gpu"}, "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists"}], "gpus": 1}
SMALL = {"requests": {"cpu": "10m", "memory": "16Mi"}, "limits": {"memory": "64Mi"}}
TMP = {"name": "tmp", "mountPath": "/tmp"}
MODEL = {"claim": "models", "path": "/models/qwen", "name": "qwen"}
EXTERNAL_SECRETS: dict[str, Any] = yaml.safe_load((CHART / "values-external-secrets.yaml").read_text())
DIGEST = "sha256:" + "ab" * 32
CONTAINERS = {
    "initContainers": [
        {"name": "proxy", "image": "proxy:1", "restartPolicy": "Always", "resources": SMALL, "volumeMounts": [TMP]}
    ],
    "sidecars": [{"name": "logs", "image": "logs:1", "resources": SMALL, "volumeMounts": [TMP]}],
}
POD_SETTINGS: dict[str, Any] = {
    "imagePullSecrets": [{"name": "registry"}],
    "nodeSelector": {"kubernetes.io/os": "linux"},
    "tolerations": [{"key": "music", "operator": "Exists", "effect": "NoSchedule"}],
    "affinity": {
        "nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {
                "nodeSelectorTerms": [
                    {"matchExpressions": [{"key": "zone", "operator": "NotIn", "values": ["b"]}]},
                    {"matchExpressions": [{"key": "zone", "operator": "NotIn", "values": ["c"]}]},
                ]
            }
        }
    },
    "priorityClassName": "music",
    "podLabels": {"team": "audio"},
    "podAnnotations": {"example.org/team": "audio"},
    "podSecurityContext": {"runAsUser": 20002},
    "securityContext": {"privileged": False},
    "extraEnv": [{"name": "USER", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
    "extraVolumes": [{"name": "authorities", "configMap": {"name": "authorities"}}],
    "extraVolumeMounts": [{"name": "authorities", "mountPath": "/authorities", "readOnly": True}],
}
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
    "prompts-left-out": {"promptsLeftOut": {"existingSecret": "prompts"}},
    "quotas": {
        "auth": {"callersSecret": "callers", "tokenSecret": "tokens", "quotas": {"shop": {"calls": 1000}, "*": {}}}
    },
    "credentials": {
        "credentials": {
            "existingSecret": "c2pa",
            "timeStamps": {"authority": "http://time.example.org/stamp", "required": True},
            "trust": {"existingConfigMap": "c2pa-trust"},
            "watermark": {"program": "/opt/audiowmark", "existingSecret": "watermark-key"},
        }
    },
    "callers": {"auth": {"callersSecret": "callers", "tokenSecret": "tokens", "callerInFlight": 4}},
    "tls": {"tls": {"secret": "tls"}},
    "mutual-tls": {"tls": {"secret": "tls", "clientAuth": "mutual", "componentSecrets": {"pipeline": "tls-pipeline"}}},
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
    "private-registry": {
        "image": {"registry": "my-registry/luthier", "tag": "1.2"},
        "imagePullSecrets": [{"name": "registry"}],
    },
    "pinned-images": {
        "image": {"repository": "team/luthier", "digests": {"pipeline": DIGEST}},
        "services": {"curation": {"image": {"registry": "mirror.example.org", "repository": "curation", "tag": "2"}}},
        "training": {"image": {"digest": DIGEST, "pullPolicy": "Always"}},
        "tryout": {"minio": {"image": {"registry": "quay.io", "repository": "minio/minio", "tag": "latest"}}},
    },
    "pod-settings": {
        **POD_SETTINGS,
        "defaults": CONTAINERS,
        "pipeline": {**CONTAINERS, "tolerations": [{"key": "spot", "operator": "Exists"}]},
        "training": {"priorityClassName": "low", "nodeSelector": {"disk": "fast"}},
        "prepare": CONTAINERS,
        "expiry": {"podAnnotations": {"example.org/expiry": "yes"}},
        "tryout": {"minio": CONTAINERS, "postgresql": CONTAINERS},
        "llm": {"vllm": {"enabled": True, "model": MODEL, **CONTAINERS}},
    },
    "renamed": {
        "nameOverride": "music",
        "fullnameOverride": "lt",
        "commonLabels": {"team": "audio"},
        "commonAnnotations": {"example.org/contact": "audio"},
        "extraObjects": [
            {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": {"name": "{{ .Release.Name }}-more"},
                "data": {"a": "b"},
            },
            "apiVersion: v1\nkind: ConfigMap\nmetadata:\n"
            '  name: {{ include "luthier.fullname" (dict "root" . "component" "text") }}',
        ],
    },
    "own-accounts": {
        "serviceAccount": {"annotations": {"example.org/all": "yes"}},
        "expiry": {"serviceAccount": {"create": False, "name": "theirs"}},
        "pipeline": {"serviceAccount": {"name": "jobs", "labels": {"example.org/of": "jobs"}}},
    },
    "hpa": {
        "services": {
            "inference": {"autoscaling": {"enabled": True, "kind": "hpa"}},
            "rendering": {
                "autoscaling": {
                    "enabled": True,
                    "kind": "hpa",
                    "minReplicas": 1,
                    "behavior": {"scaleUp": {"policies": [{"type": "Pods", "value": 4, "periodSeconds": 60}]}},
                }
            },
        }
    },
    "http-route": {
        "services": {
            "curation": {
                "httpRoute": {"enabled": True, "parentRefs": [{"name": "gateway"}], "hostnames": ["c.example.org"]}
            },
            "inference": {
                "serves": ["grpc", "web"],
                "httpRoute": {"enabled": True, "parentRefs": [{"name": "gateway"}], "timeout": "31m"},
            },
        }
    },
    "web-identity": {
        "tryout": {"minio": {"enabled": False}},
        "store": {
            "s3": {
                "endpoint": "minio.example.org:9000",
                "auth": "webIdentity",
                "existingSecret": "",
                "sts": {"endpoint": "https://minio.example.org:9000", "audience": "luthier-store"},
            }
        },
    },
    "aws-identity": {
        "tryout": {"minio": {"enabled": False}},
        "store": {
            "s3": {
                "endpoint": "s3.eu-central-1.amazonaws.com",
                "region": "eu-central-1",
                "auth": "aws",
                "existingSecret": "",
                "componentRoles": {"rendering": "arn:aws:iam::1:role/rendering", "test": "arn:aws:iam::1:role/test"},
            }
        },
    },
    "own-files": {
        "services": {
            "enrichment": {"secretFiles": {"LUTHIER_LASTFM_API_KEY": {"secret": "lastfm", "key": "api-key"}}},
            "rendering": {
                "extraVolumes": [
                    {"name": "fonts", "persistentVolumeClaim": {"claimName": "fonts", "readOnly": True}},
                    {"name": "map", "configMap": {"name": "instruments"}},
                ],
                "extraVolumeMounts": [
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
    "external-secrets": ("production", EXTERNAL_SECRETS),
    **{name: ("try", values) for name, values in SWITCHES.items()},
}
