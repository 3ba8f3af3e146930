{{- /* Rules of one component: (dict "root" "component" "actor"). */ -}}

{{- define "luthier.ingressRules" -}}
{{- if hasKey .root.Values.services .component }}
{{- $workload := include "luthier.workload" . | fromYaml }}
{{- $callers := include "luthier.thoseWho" (dict "root" .root "list" "calls" "what" .component) | fromYamlArray }}
{{- with concat $callers $workload.allowedCallers }}
- from: {{- toYaml . | nindent 4 }}
  ports:
    - {port: grpc, protocol: TCP}
{{- end }}
{{- with $workload.webCallers }}
- from: {{- toYaml . | nindent 4 }}
  ports:
    - {port: web, protocol: TCP}
{{- end }}
{{- with .root.Values.prometheus.scrapers }}
- from: {{- toYaml . | nindent 4 }}
  ports:
    - {port: metrics, protocol: TCP}
{{- end }}
{{- end }}
{{- end }}

{{- define "luthier.egressRules" -}}
{{- $values := .root.Values }}
{{- $root := .root }}
- to: {{- toYaml $values.networkPolicy.dns | nindent 4 }}
  ports:
    - {port: 53, protocol: UDP}
    - {port: 53, protocol: TCP}
{{- range .actor.calls }}
{{ include "luthier.towards" (dict "to" (include "luthier.peer" (dict "root" $root "component" .) | fromJsonArray) "ports" (list 7100)) }}
{{- end }}
{{- if has "store" .actor.needs }}
{{ include "luthier.towardsStore" . }}
{{- end }}
{{- if has "database" .actor.needs }}
{{- include "luthier.towardsDatabase" . }}
{{- end }}
{{- if has "kubernetes" .actor.needs }}
{{ include "luthier.towards" (dict "to" $values.networkPolicy.kubernetes "ports" (list 443 6443)) }}
{{- end }}
{{- if has "internet" .actor.needs }}
- to:
    - ipBlock:
        cidr: 0.0.0.0/0
        except: [10.0.0.0/8, 100.64.0.0/10, 169.254.0.0/16, 172.16.0.0/12, 192.168.0.0/16]
  ports:
    - {port: 443, protocol: TCP}
{{- end }}
{{- if has "llm" .actor.needs }}
{{- include "luthier.towardsLlm" . }}
{{- end }}
{{- with $values.telemetry.otlpEndpoint }}
{{ include "luthier.towards" (dict "to" $values.telemetry.egress "ports" (list (include "luthier.portOf" (dict "url" . "secure" false)))) }}
{{- end }}
{{- end }}

{{- define "luthier.towardsStore" -}}
{{- $values := .root.Values }}
{{- if $values.tryout.minio.enabled }}
{{- include "luthier.towards" (dict "to" (include "luthier.peer" (dict "root" .root "component" "minio") | fromJsonArray) "ports" (list 9000)) }}
{{- else }}
{{- include "luthier.towards" (dict "to" $values.store.s3.egress "ports" (list (include "luthier.portOf" (dict "url" (include "luthier.s3Endpoint" .root) "secure" $values.store.s3.secure)))) }}
{{- end }}
{{- end }}

{{- define "luthier.towardsDatabase" -}}
{{- $values := .root.Values }}
{{- if $values.tryout.postgresql.enabled }}
{{ include "luthier.towards" (dict "to" (include "luthier.peer" (dict "root" .root "component" "postgresql") | fromJsonArray) "ports" (list 5432)) }}
{{- else if $values.database.existingSecret }}
{{ include "luthier.towards" (dict "to" $values.database.egress "ports" (list (int $values.database.port))) }}
{{- end }}
{{- end }}

{{- define "luthier.towardsLlm" -}}
{{- $values := .root.Values }}
{{- if $values.llm.vllm.enabled }}
{{ include "luthier.towards" (dict "to" (include "luthier.peer" (dict "root" .root "component" "vllm") | fromJsonArray) "ports" (list 8000)) }}
{{- else if $values.llm.external.url }}
{{ include "luthier.towards" (dict "to" $values.llm.external.egress "ports" (list (include "luthier.portOf" (dict "url" $values.llm.external.url "secure" false)))) }}
{{- end }}
{{- end }}
