{{- /* What a server needs beside its environment. The number of a port is told here. */ -}}

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
{{- $how := ternary "grpc: {port: 7110}" "httpGet: {path: /healthz, port: metrics}" (has "grpc" .serves) -}}
startupProbe:
  {{ $how }}
  periodSeconds: 2
  timeoutSeconds: 5
  failureThreshold: {{ div (int .startupSeconds) 2 }}
readinessProbe:
  {{ $how }}
  periodSeconds: 5
  timeoutSeconds: 5
livenessProbe:
  {{ $how }}
  periodSeconds: 20
  timeoutSeconds: 10
  failureThreshold: 6
{{- end }}

{{- /* Longer than all that happens before the process has ended. */ -}}
{{- define "luthier.podGrace" -}}
{{- add (int .preStopSeconds) (int .drainSeconds) (int .graceSeconds) 30 }}
{{- end }}

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
