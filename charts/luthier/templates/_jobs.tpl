{{- /* Jobs: the templates in the ConfigMap <release>-jobs, and the Pods of the Jobs in jobs.yaml. */ -}}

{{- /* The Pod template of a Job: (dict "root" "component" "workload" "pool" "image" "command" "args"). */ -}}
{{- define "luthier.jobPodTemplate" -}}
{{- with merge (dict "pod" (include "luthier.pod" . | fromYaml)) . -}}
metadata:
  labels: {{- include "luthier.podLabels" . | trim | nindent 4 }}
  {{- with include "luthier.podAnnotations" . | trim }}
  {{- . | nindent 2 }}
  {{- end }}
spec:
  serviceAccountName: {{ include "luthier.serviceAccount" . }}
  restartPolicy: Never
  {{- include "luthier.podSecurity" . | trim | nindent 2 }}
  {{- include "luthier.placement" . | trim | nindent 2 }}
  terminationGracePeriodSeconds: {{ add (int .workload.graceSeconds) 30 }}
  {{- with include "luthier.initContainers" . | trim }}
  {{- . | nindent 2 }}
  {{- end }}
  containers:
    - name: {{ .component }}
      image: {{ include "luthier.image" . }}
      imagePullPolicy: {{ include "luthier.pullPolicy" . }}
      terminationMessagePolicy: FallbackToLogsOnError
      {{- with .command }}
      command: {{- toYaml . | nindent 8 }}
      {{- end }}
      args: {{- toYaml .args | nindent 8 }}
      env: {{- include "luthier.env" . | trim | nindent 8 }}
      securityContext: {{- include "luthier.containerSecurity" . | trim | nindent 8 }}
      resources: {{- include "luthier.resources" (merge (dict "resources" .workload.resources) .) | trim | nindent 8 }}
      volumeMounts: {{- include "luthier.volumeMounts" . | trim | nindent 8 }}
    {{- with include "luthier.sidecars" . }}
    {{- . | nindent 4 }}
    {{- end }}
  volumes: {{- include "luthier.volumes" . | trim | nindent 4 }}
{{- end }}
{{- end }}

{{- /* A complete Job. Its creator (training, `luthier submit`) sets the name, of which "name" is the prefix, the args, the number
       of indexes and, for ingest, the corpus volume. There is no podFailurePolicy: Pods of a lost node are replaced at once. */ -}}
{{- define "luthier.job" -}}
apiVersion: batch/v1
kind: Job
metadata:
  name: {{ include "luthier.fullname" (dict "root" .root "component" .name) }}
  namespace: {{ .root.Release.Namespace }}
  {{- with .root.Values.commonAnnotations }}
  annotations: {{- toYaml . | nindent 4 }}
  {{- end }}
  labels: {{- include "luthier.labels" . | trim | nindent 4 }}
    {{- with .workload.queue }}
    kueue.x-k8s.io/queue-name: {{ . }}
    {{- end }}
spec:
  {{- if .workload.queue }}
  suspend: true # Kueue admits it
  {{- end }}
  {{- if .indexed }}
  completionMode: Indexed
  completions: 1
  parallelism: 1
  backoffLimitPerIndex: {{ int .workload.backoffLimit }}
  {{- else }}
  backoffLimit: {{ int .workload.backoffLimit }}
  {{- end }}
  podReplacementPolicy: TerminatingOrFailed
  ttlSecondsAfterFinished: {{ int .workload.ttlSeconds }}
  template: {{- include "luthier.jobPodTemplate" . | trim | nindent 4 }}
{{- end }}

{{- /* Data of the ConfigMap <release>-jobs. */ -}}
{{- define "luthier.jobs" -}}
{{- $pipeline := .Values.pipeline }}
{{- $image := include "luthier.imageOf" (dict "of" $pipeline "name" "pipeline") | fromJson }}
{{- $connections := include "luthier.connections" . | fromYaml }}
{{- $ingest := mergeOverwrite (deepCopy $pipeline) $connections.ingest }}
{{- $shards := mergeOverwrite (deepCopy $pipeline) $connections.pipeline }}
{{- $trainingRun := mergeOverwrite (deepCopy .Values.training) (index $connections "training-run") }}
ingest.yaml: |
  {{- include "luthier.job" (dict "root" . "component" "ingest" "name" "ingest" "workload" $ingest "pool" $pipeline.nodePool "image" $image "args" (list "ingest")) | trim | nindent 2 }}
shards.yaml: |
  {{- include "luthier.job" (dict "root" . "component" "pipeline" "name" "run" "workload" $shards "pool" $pipeline.nodePool "image" $image "args" (list "run") "indexed" true) | trim | nindent 2 }}
training-run.yaml: |
  {{- include "luthier.job" (dict "root" . "component" "training-run" "name" "train" "workload" $trainingRun "pool" .Values.training.nodePool "image" (include "luthier.imageOf" (dict "of" .Values.training "name" "training") | fromJson) "command" (list "python") "args" (list "-m" "luthier_training.runner")) | trim | nindent 2 }}
{{- end }}
