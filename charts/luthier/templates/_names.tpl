{{- /* Names, labels, images, DNS names and merged settings of a component. Most take (dict "root" $ "component" name …). */ -}}

{{- define "luthier.fullname" -}}
{{- if gt (len .root.Release.Name) 30 }}
{{- fail (printf "the release's name must have at most 30 characters (names of Jobs begin with it), got %q" .root.Release.Name) }}
{{- end -}}
{{ .root.Release.Name }}-{{ .component }}
{{- end }}

{{- define "luthier.selector" -}}
app.kubernetes.io/name: luthier
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- define "luthier.labels" -}}
{{ include "luthier.selector" . }}
app.kubernetes.io/version: {{ .root.Values.image.tag | default .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
app.kubernetes.io/part-of: luthier
{{- end }}

{{- define "luthier.metadata" -}}
name: {{ include "luthier.fullname" . }}
namespace: {{ .root.Release.Namespace }}
labels: {{- include "luthier.labels" . | trim | nindent 2 }}
{{- end }}

{{- /* (dict "root" $ "image" name in the registry). */ -}}
{{- define "luthier.image" -}}
{{ .root.Values.image.registry }}/{{ .image }}:{{ .root.Values.image.tag | default .root.Chart.AppVersion }}
{{- end }}

{{- define "luthier.host" -}}
{{ include "luthier.fullname" . }}.{{ .root.Release.Namespace }}.svc.{{ .root.Values.clusterDomain }}
{{- end }}

{{- /* YAML: the settings of a service. A key of its entry in `services` replaces the one in `defaults`; env is merged. */ -}}
{{- define "luthier.workload" -}}
{{- $workload := dict "image" .component "calls" list "needs" list "serves" (list "grpc") }}
{{- $entry := index .root.Values.services .component }}
{{- range $layer := list .root.Values.defaults $entry }}
{{- range $key, $value := $layer }}
{{- $_ := set $workload $key $value }}
{{- end }}
{{- end }}
{{- $_ := set $workload "env" (merge dict (default dict $entry.env) (default dict .root.Values.defaults.env)) }}
{{- toYaml $workload }}
{{- end }}
