{{- /* The settings that Pods of any kind have: placement, security, labels, further containers, ServiceAccount (values of these
       names at the top level, in `defaults`, and in the entry of a workload). All take (dict "root" $ "component" name), those below
       luthier.over also "pod": what luthier.pod gives. */ -}}

{{- /* JSON list of the entries of the values that a component's Pods follow, the general one first. */ -}}
{{- define "luthier.podLayers" -}}
{{- $values := .root.Values }}
{{- $own := dict "ingest" (list $values.pipeline) "pipeline" (list $values.pipeline) "expiry" (list $values.pipeline $values.expiry) "training-run" (list $values.training) "prepare-store" (list $values.prepare) "migrate" (list $values.prepare) "test" (list $values.prepare) "minio" (list $values.tryout.minio) "postgresql" (list $values.tryout.postgresql) "vllm" (list $values.llm.vllm) }}
{{- toJson (concat (list (omit $values "services" "extraObjects")) (get $own .component | default (list $values.defaults (index $values.services .component | default dict)))) }}
{{- end }}

{{- /* YAML: these settings of a component. Maps are merged and lists joined; of equal keys, and of variables of one name, the
       later layer's stays. null takes a key out. */ -}}
{{- define "luthier.pod" -}}
{{- $pod := dict "priorityClassName" "" "serviceAccount" dict }}
{{- $maps := list "nodeSelector" "affinity" "podLabels" "podAnnotations" "podSecurityContext" "securityContext" }}
{{- $lists := list "imagePullSecrets" "tolerations" "extraVolumes" "extraVolumeMounts" "initContainers" "sidecars" }}
{{- $env := dict }}
{{- range $layer := include "luthier.podLayers" . | fromJsonArray }}
{{- range $key := $maps }}
{{- $_ := set $pod $key (include "luthier.over" (list (get $pod $key | default dict) (get $layer $key | default dict)) | fromJson) }}
{{- end }}
{{- range $key := $lists }}
{{- $_ := set $pod $key (concat (get $pod $key | default list) (get $layer $key | default list) | default list) }}
{{- end }}
{{- with $layer.priorityClassName }}{{ $_ := set $pod "priorityClassName" . }}{{ end }}
{{- range $layer.extraEnv }}{{ $_ := set $env .name . }}{{ end }}
{{- $account := $layer.serviceAccount | default dict }}
{{- range $key := list "annotations" "labels" }}
{{- $_ := set $pod.serviceAccount $key (include "luthier.over" (list (get $pod.serviceAccount $key | default dict) (get $account $key | default dict)) | fromJson) }}
{{- end }}
{{- range $key := list "create" "name" }}
{{- if hasKey $account $key }}{{ $_ := set $pod.serviceAccount $key (get $account $key) }}{{ end }}
{{- end }}
{{- end }}
{{- $_ := set $pod "extraEnv" list }}
{{- range $name := keys $env | sortAlpha }}{{ $_ := set $pod "extraEnv" (append $pod.extraEnv (get $env $name)) }}{{ end }}
{{- toYaml $pod }}
{{- end }}

{{- /* JSON: the second of two maps over the first. */ -}}
{{- define "luthier.over" -}}
{{- $over := deepCopy (first .) }}
{{- range $key, $value := last . }}
{{- if kindIs "invalid" $value }}{{ $_ := unset $over $key }}{{ else }}{{ $_ := set $over $key $value }}{{ end }}
{{- end }}
{{- toJson $over }}
{{- end }}

{{- define "luthier.podLabels" -}}
{{- include "luthier.labels" (merge (dict "more" .pod.podLabels) .) }}
{{- end }}

{{- /* Annotations of a Pod; also takes "more", further ones. */ -}}
{{- define "luthier.podAnnotations" -}}
{{- with merge dict (.more | default dict) .pod.podAnnotations }}
annotations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "luthier.serviceAccount" -}}
{{- $account := .pod.serviceAccount }}
{{- $account.name | default (ternary (include "luthier.fullname" .) "default" $account.create) }}
{{- end }}

{{- /* Annotations of a component's ServiceAccount: the values', and its role at AWS. */ -}}
{{- define "luthier.accountAnnotations" -}}
{{- $annotations := .pod.serviceAccount.annotations }}
{{- $connections := include "luthier.connections" .root | fromYaml }}
{{- if and (eq .root.Values.store.s3.auth "aws") (has "store" (dig .component "needs" list $connections)) }}
{{- with include "luthier.s3Role" . | trim }}
{{- $annotations = merge dict $annotations (dict "eks.amazonaws.com/role-arn" .) }}
{{- end }}
{{- end }}
{{- toYaml $annotations }}
{{- end }}

{{- /* Containers of the values, whose securityContext is that of Luthier's own unless they have one: (dict … "containers" key). */ -}}
{{- define "luthier.furtherContainers" -}}
{{- $security := include "luthier.containerSecurity" . | fromYaml }}
{{- range get .pod .containers }}
- {{- ternary . (merge (dict "securityContext" $security) .) (hasKey . "securityContext") | toYaml | nindent 2 }}
{{- end }}
{{- end }}

{{- define "luthier.initContainers" -}}
{{- with include "luthier.furtherContainers" (merge (dict "containers" "initContainers") .) | trim }}
initContainers: {{- . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "luthier.sidecars" -}}
{{- include "luthier.furtherContainers" (merge (dict "containers" "sidecars") .) | trim }}
{{- end }}

{{- /* Variables of a container of another project's image, those of extraEnv in place of its own: (dict … "env" list). */ -}}
{{- define "luthier.envOf" -}}
{{- $names := list }}
{{- range .pod.extraEnv }}{{ $names = append $names .name }}{{ end }}
{{- $env := list }}
{{- range .env }}{{ if not (has .name $names) }}{{ $env = append $env . }}{{ end }}{{ end }}
{{- toYaml (concat $env .pod.extraEnv) }}
{{- end }}

{{- /* Its volumes and mounts of the values, as items of a list. */ -}}
{{- define "luthier.extra" -}}
{{- with get .pod .extra }}{{ toYaml . }}{{ end }}
{{- end }}
