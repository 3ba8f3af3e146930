{{- /* Scheduling. Most take (dict "root" $ "component" name "pool" name of nodePools); luthier.placement also takes "sharesNodeWith": a component whose
       node is preferred. */ -}}

{{- define "luthier.pool" -}}
{{- $pools := .root.Values.nodePools -}}
{{- if not (hasKey $pools .pool) }}
{{- fail (printf "nodePool %q is not one of nodePools: %s" .pool (keys $pools | sortAlpha | join ", ")) }}
{{- end -}}
{{- merge (deepCopy (index $pools .pool | default dict)) (dict "selector" dict "tolerations" list "gpus" 0 "runtimeClass" "") | toYaml }}
{{- end }}

{{- define "luthier.gpus" -}}
{{- (include "luthier.pool" . | fromYaml).gpus | int }}
{{- end }}

{{- define "luthier.placement" -}}
{{- $pool := include "luthier.pool" . | fromYaml }}
{{- $pod := .pod }}
{{- with merge dict $pod.nodeSelector $pool.selector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- $affinity := deepCopy $pod.affinity }}
{{- if not ($pool.gpus | int) }}
{{- with include "luthier.avoidGpuNodes" . | fromYaml }}
{{- $_ := set $affinity "nodeAffinity" (include "luthier.bothNodeAffinities" (list . ($affinity.nodeAffinity | default dict)) | fromJson) }}
{{- end }}
{{- end }}
{{- if .sharesNodeWith }}
{{- $near := $affinity.podAffinity | default dict }}
{{- $preferred := "preferredDuringSchedulingIgnoredDuringExecution" }}
{{- $_ := set $near $preferred (concat (get (include "luthier.preferNodeOf" . | fromYaml) $preferred) (get $near $preferred | default list)) }}
{{- $_ := set $affinity "podAffinity" $near }}
{{- end }}
{{- with $affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
tolerations:
  {{- with concat $pool.tolerations $pod.tolerations }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
  - {key: node.kubernetes.io/unreachable, operator: Exists, effect: NoExecute, tolerationSeconds: {{ int .root.Values.unreachableSeconds }}}
  - {key: node.kubernetes.io/not-ready, operator: Exists, effect: NoExecute, tolerationSeconds: {{ int .root.Values.unreachableSeconds }}}
{{- with $pool.runtimeClass }}
runtimeClassName: {{ . }}
{{- end }}
{{- end }}

{{- /* Node affinity that excludes every GPU pool. A node belongs to a pool when it has all labels of the pool's selector, so "in no
       GPU pool" is an AND over pools of an OR over labels. nodeSelectorTerms are an OR of ANDs, hence the product below. */ -}}
{{- define "luthier.avoidGpuNodes" -}}
{{- $terms := list list }}
{{- range $name, $pool := .root.Values.nodePools }}
{{- if $pool }}{{ if $pool.gpus | int }}
  {{- $product := list }}
  {{- range $term := $terms }}
    {{- range $key, $value := $pool.selector }}
      {{- $product = append $product (append $term (dict "key" $key "operator" "NotIn" "values" (list $value))) }}
    {{- end }}
  {{- end }}
  {{- $terms = $product }}
{{- end }}{{ end }}
{{- end }}
{{- if first $terms }}
requiredDuringSchedulingIgnoredDuringExecution:
  nodeSelectorTerms:
    {{- range $terms }}
    - matchExpressions: {{- toYaml . | nindent 8 }}
    {{- end }}
{{- end }}
{{- end }}

{{- /* JSON: a node affinity that requires what both of two require. Terms are an OR of ANDs, so both hold where one term of the
       first and one of the second do. */ -}}
{{- define "luthier.bothNodeAffinities" -}}
{{- $required := "requiredDuringSchedulingIgnoredDuringExecution" }}
{{- $both := deepCopy (last .) }}
{{- $ours := (get (first .) $required).nodeSelectorTerms }}
{{- $theirs := dig $required "nodeSelectorTerms" (list dict) $both }}
{{- $terms := list }}
{{- range $one := $ours }}
{{- range $other := $theirs }}
{{- $terms = append $terms (merge (dict "matchExpressions" (concat $one.matchExpressions ($other.matchExpressions | default list))) $other) }}
{{- end }}
{{- end }}
{{- $_ := set $both $required (dict "nodeSelectorTerms" $terms) }}
{{- toJson $both }}
{{- end }}

{{- define "luthier.preferNodeOf" -}}
preferredDuringSchedulingIgnoredDuringExecution:
  - weight: 100
    podAffinityTerm:
      topologyKey: kubernetes.io/hostname
      labelSelector:
        matchLabels: {{- include "luthier.selector" (dict "root" .root "component" .sharesNodeWith) | trim | nindent 10 }}
{{- end }}

{{- /* Resources with the GPUs of the pool as a limit: (dict "root" $ "pool" name "resources" …). */ -}}
{{- define "luthier.resources" -}}
{{- $resources := deepCopy .resources -}}
{{- $gpus := include "luthier.gpus" . -}}
{{- if ne $gpus "0" }}
{{- $_ := set $resources "limits" (merge (dict "nvidia.com/gpu" $gpus) (default dict $resources.limits)) }}
{{- end -}}
{{- toYaml $resources }}
{{- end }}

{{- /* Pods of one component and revision spread over nodes and zones: (dict "root" $ "component" name). */ -}}
{{- define "luthier.topologySpread" -}}
{{- range $key := list "kubernetes.io/hostname" "topology.kubernetes.io/zone" }}
- maxSkew: 1
  topologyKey: {{ $key }}
  whenUnsatisfiable: ScheduleAnyway
  labelSelector:
    matchLabels: {{- include "luthier.selector" $ | trim | nindent 6 }}
  matchLabelKeys: [pod-template-hash]
{{- end }}
{{- end }}
