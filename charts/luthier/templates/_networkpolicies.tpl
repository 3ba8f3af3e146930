{{- /* Which connections the NetworkPolicies allow and the Jobs have addresses for. They follow from `calls` and `needs` of
       the services in values.yaml. */ -}}

{{- /* Outgoing connections of every component, Pods of Jobs and of `helm test` included: component -> {calls, needs}. */ -}}
{{- define "luthier.connections" -}}
{{- range $component, $entry := .Values.services }}
{{- range $entry.calls }}
{{- if not (hasKey $.Values.services .) }}
{{- fail (printf "services.%s.calls: %q is none of services: %s" $component . (keys $.Values.services | sortAlpha | join ", ")) }}
{{- end }}
{{- end }}
{{ $component }}: {calls: {{ default list $entry.calls | toJson }}, needs: {{ default list $entry.needs | toJson }}}
{{- end }}
ingest: {calls: [rendering, enrichment], needs: [store]}
pipeline: {calls: {{ include "luthier.grpcServices" . }}, needs: [store]}
training-run: {calls: [], needs: [store]}
prepare-store: {calls: [], needs: [store]}
{{- if .Values.expiry.enabled }}
expiry: {calls: [], needs: [store]}
{{- end }}
{{- if .Values.database.existingSecret }}
migrate: {calls: [], needs: [database]}
{{- end }}
test: {calls: [inference], needs: [store]}
{{- end }}

{{- /* JSON list of the services that serve gRPC: the pipeline calls them all. */ -}}
{{- define "luthier.grpcServices" -}}
{{- $names := list }}
{{- range $component, $entry := .Values.services }}
{{- if has "grpc" (dig "serves" (list "grpc") $entry) }}{{ $names = append $names $component }}{{ end }}
{{- end }}
{{- toJson $names }}
{{- end }}

{{- /* NetworkPolicy peers: the Pods of this release whose connections list .value in .field ("calls" or "needs"). */ -}}
{{- define "luthier.clientPeers" -}}
{{- $ := . }}
{{- range $component, $connections := include "luthier.connections" .root | fromYaml }}
{{- if has $.value (index $connections $.field) }}
- podSelector:
    matchLabels: {{- include "luthier.selector" (dict "root" $.root "component" $component) | trim | nindent 6 }}
{{- end }}
{{- end }}
{{- end }}

{{- /* NetworkPolicy peers, as JSON: the Pods of one component of this release. */ -}}
{{- define "luthier.podPeers" -}}
{{- list (dict "podSelector" (dict "matchLabels" (include "luthier.selector" . | fromYaml))) | toJson }}
{{- end }}

{{- /* The port of a URL or host:port: (dict "url" "secure"); without a number 443 where TLS is spoken, else 80. */ -}}
{{- define "luthier.urlPort" -}}
{{- $host := regexReplaceAll "^[a-z]+://" .url "" | regexFind "^[^/]+" }}
{{- regexFind "[0-9]+$" (regexFind ":[0-9]+$" $host) | default (ternary "443" "80" (or .secure (hasPrefix "https:" .url))) }}
{{- end }}

{{- /* Ingress rules of a component: (dict "root" "component"). Only services are called by others. */ -}}
{{- define "luthier.ingressRules" -}}
{{- if hasKey .root.Values.services .component }}
{{- $workload := include "luthier.workload" . | fromYaml }}
{{- $callers := include "luthier.clientPeers" (dict "root" .root "field" "calls" "value" .component) | fromYamlArray }}
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

{{- /* Egress rules of a component: (dict "root" "connections"). Each of $rules is (dict "ports" list, and "component" of this
       release, or "to": peers from values.yaml, empty = any address). */ -}}
{{- define "luthier.egressRules" -}}
{{- $root := .root }}
{{- $values := .root.Values }}
{{- $needs := .connections.needs }}
- to: {{- toYaml $values.networkPolicy.dns | nindent 4 }}
  ports:
    - {port: 53, protocol: UDP}
    - {port: 53, protocol: TCP}
{{- $rules := list }}
{{- range .connections.calls }}
{{- $rules = append $rules (dict "component" . "ports" (list 7100)) }}
{{- end }}
{{- if has "store" $needs }}
{{- if $values.tryout.minio.enabled }}
{{- $rules = append $rules (dict "component" "minio" "ports" (list 9000)) }}
{{- else }}
{{- $port := include "luthier.urlPort" (dict "url" (include "luthier.s3Endpoint" $root) "secure" $values.store.s3.secure) }}
{{- $rules = append $rules (dict "to" $values.store.s3.egress "ports" (list $port)) }}
{{- end }}
{{- end }}
{{- if and (has "store" $needs) (ne $values.store.s3.auth "static") }}
{{- $rules = append $rules (dict "to" $values.store.s3.sts.egress "ports" (list (include "luthier.urlPort" (dict "url" (include "luthier.sts" $root) "secure" true)))) }}
{{- if eq $values.store.s3.auth "aws" }}
{{- /* The agent of EKS Pod Identity, on the node. */}}
{{- $rules = append $rules (dict "to" (list (dict "ipBlock" (dict "cidr" "169.254.170.23/32"))) "ports" (list 80)) }}
{{- end }}
{{- end }}
{{- if has "database" $needs }}
{{- if $values.tryout.postgresql.enabled }}
{{- $rules = append $rules (dict "component" "postgresql" "ports" (list 5432)) }}
{{- else if $values.database.existingSecret }}
{{- $rules = append $rules (dict "to" $values.database.egress "ports" (list (int $values.database.port))) }}
{{- end }}
{{- end }}
{{- if has "kubernetes" $needs }}
{{- $rules = append $rules (dict "to" $values.networkPolicy.kubernetes "ports" (list 443 6443)) }}
{{- end }}
{{- if has "internet" $needs }}
{{- $public := dict "cidr" "0.0.0.0/0" "except" (list "10.0.0.0/8" "100.64.0.0/10" "169.254.0.0/16" "172.16.0.0/12" "192.168.0.0/16") }}
{{- $rules = append $rules (dict "to" (list (dict "ipBlock" $public)) "ports" (list 443)) }}
{{- end }}
{{- if and (eq .component "inference") $values.credentials.timeStamps.authority }}
{{- $port := include "luthier.urlPort" (dict "url" $values.credentials.timeStamps.authority "secure" false) }}
{{- $rules = append $rules (dict "to" $values.credentials.timeStamps.egress "ports" (list $port)) }}
{{- end }}
{{- if has "llm" $needs }}
{{- if $values.llm.vllm.enabled }}
{{- $rules = append $rules (dict "component" "vllm" "ports" (list 8000)) }}
{{- else if $values.llm.external.url }}
{{- $port := include "luthier.urlPort" (dict "url" $values.llm.external.url "secure" false) }}
{{- $rules = append $rules (dict "to" $values.llm.external.egress "ports" (list $port)) }}
{{- end }}
{{- end }}
{{- with $values.telemetry.otlpEndpoint }}
{{- $port := include "luthier.urlPort" (dict "url" . "secure" false) }}
{{- $rules = append $rules (dict "to" $values.telemetry.egress "ports" (list $port)) }}
{{- end }}
{{- range $rules }}
{{- $to := .to }}
{{- with .component }}{{ $to = include "luthier.podPeers" (dict "root" $root "component" .) | fromJsonArray }}{{ end }}
- {{ with $to }}to: {{- toYaml . | nindent 4 }}
  {{ end }}ports:
    {{- range .ports }}
    - {port: {{ . }}, protocol: TCP}
    {{- end }}
{{- end }}
{{- end }}
