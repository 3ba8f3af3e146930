{{- /* Ports, probes, time to terminate and update strategy of Deployments. All take a service's settings (luthier.workload). */ -}}

{{- define "luthier.ports" -}}
{{- if has "grpc" .serves }}
grpc: 7100
{{- end }}
metrics: 7200
{{- if has "web" .serves }}
web: 7300
{{- end }}
{{- end }}

{{- define "luthier.containerPorts" -}}
{{- range $name, $port := include "luthier.ports" . | fromYaml }}
- {name: {{ $name }}, containerPort: {{ $port }}}
{{- end }}
{{- if has "grpc" .serves }}
- {name: health, containerPort: 7110}
{{- end }}
{{- end }}

{{- define "luthier.probes" -}}
{{- $check := ternary "grpc: {port: 7110}" "httpGet: {path: /healthz, port: metrics}" (has "grpc" .serves) -}}
startupProbe:
  {{ $check }}
  periodSeconds: 2
  timeoutSeconds: 5
  failureThreshold: {{ div (int .startupSeconds) 2 }}
readinessProbe:
  {{ $check }}
  periodSeconds: 5
  timeoutSeconds: 5
livenessProbe:
  {{ $check }}
  periodSeconds: 20
  timeoutSeconds: 10
  failureThreshold: 6
{{- end }}

{{- /* The preStop hook, NOT_SERVING while clients move on, calls that finish, and 30 s for the process to end. */ -}}
{{- define "luthier.terminationGraceSeconds" -}}
{{- add (int .preStopSeconds) (int .drainSeconds) (int .graceSeconds) 30 }}
{{- end }}

{{- /* (dict "embedded" bool "surge" Pods): SQLite permits one writer, so the old Pod ends before the new one starts. */ -}}
{{- define "luthier.strategy" -}}
{{- if .embedded -}}
type: Recreate
{{- else -}}
type: RollingUpdate
rollingUpdate:
  maxSurge: {{ int .surge }}
  maxUnavailable: {{ ternary 0 1 (gt (int .surge) 0) }}
{{- end }}
{{- end }}
