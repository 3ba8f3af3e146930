{{- /* Names, labels, images, DNS names and merged settings of a component. Most take (dict "root" $ "component" name …). */ -}}

{{- define "luthier.fullname" -}}
{{- $prefix := .root.Values.fullnameOverride | default .root.Release.Name }}
{{- if gt (len $prefix) 30 }}
{{- fail (printf "the release's name, or fullnameOverride, must have at most 30 characters (names of Jobs begin with it), got %q" $prefix) }}
{{- end -}}
{{ $prefix }}-{{ .component }}
{{- end }}

{{- /* Label app.kubernetes.io/name. */ -}}
{{- define "luthier.name" -}}
{{ .root.Values.nameOverride | default .root.Chart.Name }}
{{- end }}

{{- define "luthier.selector" -}}
app.kubernetes.io/name: {{ include "luthier.name" . }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- /* Also takes "more", further labels. */ -}}
{{- define "luthier.labels" -}}
{{ include "luthier.selector" . }}
{{- $own := dict "app.kubernetes.io/version" (.root.Values.image.tag | default .root.Chart.AppVersion) "app.kubernetes.io/managed-by" .root.Release.Service "app.kubernetes.io/part-of" "luthier" }}
{{ merge dict (.more | default dict) (.root.Values.commonLabels | default dict) $own | toYaml }}
{{- end }}

{{- /* Also takes "annotations" and "labels". */ -}}
{{- define "luthier.metadata" -}}
name: {{ include "luthier.fullname" . }}
namespace: {{ .root.Release.Namespace }}
{{- with merge dict (.annotations | default dict) (.root.Values.commonAnnotations | default dict) }}
annotations: {{- toYaml . | nindent 2 }}
{{- end }}
labels: {{- include "luthier.labels" (merge (dict "more" .labels) .) | trim | nindent 2 }}
{{- end }}

{{- /* (dict "root" $ "image" {name, and registry, repository, tag, digest where a workload has its own}). A digest of
       image.digests is of the image as Luthier's registry has it. */ -}}
{{- define "luthier.image" -}}
{{- $all := .root.Values.image }}
{{- $repository := .image.repository | default (printf "%s/%s" $all.repository .image.name | trimPrefix "/") }}
{{- $digest := .image.digest | default "" }}
{{- if not (or $digest .image.registry .image.repository .image.tag) }}
{{- $digest = get $all.digests .image.name }}
{{- end -}}
{{ .image.registry | default $all.registry }}/{{ $repository }}{{ if $digest }}@{{ $digest }}{{ else }}:{{ .image.tag | default $all.tag | default .root.Chart.AppVersion }}{{ end }}
{{- end }}

{{- define "luthier.pullPolicy" -}}
{{ .image.pullPolicy | default .root.Values.image.pullPolicy }}
{{- end }}

{{- /* JSON: the image of a workload's entry in the values, called .name unless it says otherwise: (dict "of" entry "name"). */ -}}
{{- define "luthier.imageOf" -}}
{{- merge dict (.of.image | default dict) (dict "name" .name) | toJson }}
{{- end }}

{{- /* A value that must be there: (list message value). Not Helm's `required`, of which `helm lint` warns wherever a chart needs
       values that nobody can know: fail says the same when the chart is rendered. */ -}}
{{- define "luthier.required" -}}
{{- if not (last .) }}{{ fail (first .) }}{{ end }}
{{- last . }}
{{- end }}

{{- define "luthier.host" -}}
{{ include "luthier.fullname" . }}.{{ .root.Release.Namespace }}.svc.{{ .root.Values.clusterDomain }}
{{- end }}

{{- /* YAML: the settings of a service. A key of its entry in `services` replaces the one in `defaults`; env is merged. */ -}}
{{- define "luthier.workload" -}}
{{- $workload := dict "calls" list "needs" list "serves" (list "grpc") }}
{{- $entry := index .root.Values.services .component }}
{{- range $layer := list .root.Values.defaults $entry }}
{{- range $key, $value := $layer }}
{{- $_ := set $workload $key $value }}
{{- end }}
{{- end }}
{{- $_ := set $workload "image" (include "luthier.imageOf" (dict "of" $entry "name" .component) | fromJson) }}
{{- $_ := set $workload "env" (merge dict (default dict $entry.env) (default dict .root.Values.defaults.env)) }}
{{- toYaml $workload }}
{{- end }}
