{{- /* Who speaks to whom: component -> {calls, needs}. */ -}}
{{- define "luthier.actors" -}}
{{- range $component, $entry := .Values.services }}
{{- range $entry.calls }}
{{- if not (hasKey $.Values.services .) }}
{{- fail (printf "services.%s.calls: %q is none of services: %s" $component . (keys $.Values.services | sortAlpha | join ", ")) }}
{{- end }}
{{- end }}
{{ $component }}: {calls: {{ default list $entry.calls | toJson }}, needs: {{ default list $entry.needs | toJson }}}
{{- end }}
ingest: {calls: [rendering], needs: [store]}
pipeline: {calls: {{ include "luthier.pipelineCalls" . }}, needs: [store]}
training-run: {calls: [], needs: [store]}
prepare-store: {calls: [], needs: [store]}
{{- if .Values.database.existingSecret }}
migrate: {calls: [], needs: [database]}
{{- end }}
test: {calls: [inference], needs: [store]}
{{- end }}

{{- /* The pipeline calls whatever serves gRPC. */ -}}
{{- define "luthier.pipelineCalls" -}}
{{- $calls := list }}
{{- range $component, $entry := .Values.services }}
{{- if has "grpc" (dig "serves" (list "grpc") $entry) }}{{ $calls = append $calls $component }}{{ end }}
{{- end }}
{{- toJson $calls }}
{{- end }}

{{- /* Peers that are all Pods of this release whose actor lists .what in .list ("calls" or "needs"). */ -}}
{{- define "luthier.thoseWho" -}}
{{- $ := . }}
{{- range $component, $actor := include "luthier.actors" .root | fromYaml }}
{{- if has $.what (index $actor $.list) }}
- podSelector:
    matchLabels: {{- include "luthier.selector" (dict "root" $.root "component" $component) | trim | nindent 6 }}
{{- end }}
{{- end }}
{{- end }}

{{- /* A rule of egress: (dict "to" peers (empty = anywhere) "ports" list). */ -}}
{{- define "luthier.towards" -}}
- {{ with .to }}to: {{- toYaml . | nindent 4 }}
  {{ end }}ports:
    {{- range .ports }}
    - {port: {{ . }}, protocol: TCP}
    {{- end }}
{{- end }}

{{- define "luthier.peer" -}}
{{- list (dict "podSelector" (dict "matchLabels" (include "luthier.selector" . | fromYaml))) | toJson }}
{{- end }}

{{- /* The port of a URL or host:port. */ -}}
{{- define "luthier.portOf" -}}
{{- $host := regexReplaceAll "^[a-z]+://" .url "" | regexFind "^[^/]+" }}
{{- regexFind "[0-9]+$" (regexFind ":[0-9]+$" $host) | default (ternary "443" "80" (or .secure (hasPrefix "https:" .url))) }}
{{- end }}
