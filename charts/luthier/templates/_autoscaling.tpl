{{- /* What both autoscalers share, KEDA's (scaledobjects.yaml) and Kubernetes' own (horizontalpodautoscalers.yaml). */ -}}

{{- define "luthier.checkBounds" -}}
{{- if gt (int .scaling.minReplicas) (int .scaling.maxReplicas) }}
{{- fail (printf "autoscaling of %s: minReplicas %d is more than maxReplicas %d" .component (int .scaling.minReplicas) (int .scaling.maxReplicas)) }}
{{- end }}
{{- end }}

{{- /* `behavior` of the values over a scale-down that waits: takes the settings of autoscaling. */ -}}
{{- define "luthier.scalingBehavior" -}}
{{- $down := dict "scaleDown" (dict "stabilizationWindowSeconds" (int .scaleDownSeconds)) }}
{{- mergeOverwrite $down (deepCopy (.behavior | default dict)) | toYaml }}
{{- end }}

{{- /* Name of a trigger's metric in external.metrics.k8s.io: (dict "root" "component" "trigger" name). */ -}}
{{- define "luthier.metricName" -}}
{{ printf "%s_%s" (include "luthier.fullname" .) .trigger | replace "-" "_" | replace "." "_" }}
{{- end }}
