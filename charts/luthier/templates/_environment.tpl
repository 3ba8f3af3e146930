{{- /* Environment variables of the containers that run Luthier's own code. A secret is mounted as a file (_volumes.tpl) and only
       its path is in the environment. All take (dict "root" $ "component" name "workload" {calls, needs, serves, env, …} "server" bool). */ -}}

{{- /* Later sources win: what follows from the values, then secretFiles, then env, then extraEnv. */ -}}
{{- define "luthier.env" -}}
{{- $env := dict "HOME" "/tmp" "LUTHIER_SCRATCH" "/scratch" "LUTHIER_LOG_LEVEL" .root.Values.logLevel }}
{{- $derived := list (include "luthier.serverEnv" .) (include "luthier.storeEnv" .) (include "luthier.backendEnv" .) (include "luthier.callsEnv" .) (include "luthier.telemetryEnv" .) }}
{{- range $derived }}
{{- $env = merge (fromYaml .) $env }}
{{- end }}
{{- range $name, $ref := .workload.secretFiles }}
{{- $_ := set $env (printf "%s_FILE" $name) (printf "/etc/luthier/secrets/%s/%s" $ref.secret $ref.key) }}
{{- end }}
{{- range $name, $value := .workload.env }}
{{- /* A whole number in a values file is a float in Helm: written as an integer, not as 2e+09. */}}
{{- if and (kindIs "float64" $value) (eq $value (floor $value)) }}{{ $value = int64 $value }}{{ end }}
{{- $_ := set $env $name $value }}
{{- end }}
{{- $extra := .pod.extraEnv }}
{{- range $extra }}{{ $_ := unset $env .name }}{{ end }}
{{- range $name, $value := $env }}
- {name: {{ $name }}, value: {{ $value | toString | quote }}}
{{- end }}
{{- with $extra }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "luthier.serverEnv" -}}
{{- if .server }}
LUTHIER_METRICS_ADDRESS: 0.0.0.0:7200
{{- if has "grpc" .workload.serves }}
LUTHIER_ADDRESS: 0.0.0.0:7100
LUTHIER_HEALTH_ADDRESS: 0.0.0.0:7110
LUTHIER_GRACE_S: {{ int .workload.graceSeconds | quote }}
LUTHIER_DRAIN_S: {{ int .workload.drainSeconds | quote }}
{{- with .root.Values.tls.secret }}
LUTHIER_TLS_CERT: /etc/luthier/tls/tls.crt
LUTHIER_TLS_KEY: /etc/luthier/tls/tls.key
{{- end }}
{{- if eq .root.Values.tls.clientAuth "mutual" }}
LUTHIER_TLS_CLIENT_CA: /etc/luthier/tls/ca.crt
{{- end }}
{{- if .root.Values.auth.callersSecret }}
LUTHIER_CALLERS: /etc/luthier/callers
{{- end }}
{{- if or .root.Values.auth.callersSecret (eq .root.Values.tls.clientAuth "mutual") }}
{{- $granted := list }}
{{- range $caller, $permissions := .root.Values.auth.permissions }}
{{- $granted = append $granted (printf "%s=%s" $caller (join "+" $permissions)) }}
{{- end }}
LUTHIER_CALLER_PERMISSIONS: {{ join "," $granted | quote }}
{{- end }}
LUTHIER_CALLER_IN_FLIGHT: {{ int .root.Values.auth.callerInFlight | quote }}
{{- end }}
{{- if has "web" .workload.serves }}
LUTHIER_WEB_ADDRESS: 0.0.0.0:7300
{{- end }}
{{- end }}
{{- end }}

{{- define "luthier.storeEnv" -}}
{{- if has "store" .workload.needs }}
{{- $s3 := .root.Values.store.s3 }}
LUTHIER_STORE: s3
LUTHIER_S3_ENDPOINT: {{ include "luthier.s3Endpoint" .root }}
LUTHIER_S3_REGION: {{ $s3.region }}
LUTHIER_S3_SECURE: {{ ternary "0" "1" (or .root.Values.tryout.minio.enabled (not $s3.secure)) | quote }}
LUTHIER_BUCKET: {{ $s3.bucket }}
LUTHIER_BUCKETS_ALLOWED: {{ join "," $s3.bucketsAllowed | quote }}
{{- if eq $s3.auth "static" }}
LUTHIER_S3_ACCESS_KEY_FILE: /etc/luthier/s3/access-key
LUTHIER_S3_SECRET_KEY_FILE: /etc/luthier/s3/secret-key
{{- else if eq $s3.auth "aws" }}
LUTHIER_S3_AUTH: aws
{{- else }}
LUTHIER_S3_AUTH: web-identity
LUTHIER_S3_STS: {{ include "luthier.sts" .root }}
LUTHIER_S3_ROLE: {{ include "luthier.s3Role" . | quote }}
LUTHIER_S3_IDENTITY_TOKEN: /etc/luthier/identity/token
{{- end }}
{{- if $s3.expected }}
LUTHIER_STORE_EXPECTED: "1"
{{- else if .root.Values.tryout.minio.enabled }}
LUTHIER_CREATE_BUCKET: "1" # else Pods that start before the Job prepare-store has made the bucket would fail and restart
{{- end }}
{{- end }}
{{- end }}

{{- /* URL of the STS: the values', else AWS' of the region. */ -}}
{{- define "luthier.sts" -}}
{{- $region := .Values.store.s3.region }}
{{- .Values.store.s3.sts.endpoint | default (printf "https://sts.%s.amazonaws.com%s" $region (ternary ".cn" "" (hasPrefix "cn-" $region))) }}
{{- end }}

{{- /* The role of a component at the store: its own, else the one for all. (dict "root" "component"). */ -}}
{{- define "luthier.s3Role" -}}
{{- include "luthier.checkStoreComponents" (dict "root" .root "field" "componentRoles") }}
{{- get .root.Values.store.s3.componentRoles .component | default .root.Values.store.s3.role }}
{{- end }}

{{- /* Fails where an entry of store.s3.<field> is of a component that does not open the store. */ -}}
{{- define "luthier.checkStoreComponents" -}}
{{- $field := .field }}
{{- $connections := include "luthier.connections" .root | fromYaml }}
{{- range $name, $_ := get .root.Values.store.s3 $field }}
{{- if not (has "store" (dig $name "needs" list $connections)) }}
{{- fail (printf "store.s3.%s: %q does not open the store; those that do are %s" $field $name (include "luthier.storeComponents" $connections)) }}
{{- end }}
{{- end }}
{{- end }}

{{- define "luthier.s3Endpoint" -}}
{{- if and .Values.tryout.minio.enabled (ne .Values.store.s3.auth "static") }}
{{- fail (printf "tryout.minio needs store.s3.auth=static, got %q: it trusts no provider of identities" .Values.store.s3.auth) }}
{{- end }}
{{- if .Values.tryout.minio.enabled -}}
{{ include "luthier.host" (dict "root" . "component" "minio") }}:9000
{{- else -}}
{{ include "luthier.required" (list "store.s3.endpoint is missing: host:port of an S3, or tryout.minio.enabled=true" .Values.store.s3.endpoint) }}
{{- end }}
{{- end }}

{{- /* The Secret with the key of a component: its own, else the one for all. (dict "root" "component"); minio takes the one for all. */ -}}
{{- define "luthier.s3Secret" -}}
{{- $s3 := .root.Values.store.s3 }}
{{- include "luthier.checkStoreComponents" (dict "root" .root "field" "componentSecrets") }}
{{- with get $s3.componentSecrets .component }}{{ . }}{{ else }}{{ include "luthier.required" (list (printf "store.s3.existingSecret is missing: a Secret with the keys access-key and secret-key, for all that have none in store.s3.componentSecrets, such as %s" .component) $s3.existingSecret) }}{{ end }}
{{- end }}

{{- define "luthier.storeComponents" -}}
{{- $names := list }}
{{- range $name, $connections := . }}{{ if has "store" $connections.needs }}{{ $names = append $names $name }}{{ end }}{{ end }}
{{- $names | sortAlpha | join ", " }}
{{- end }}

{{- /* Of `needs`: the Kubernetes API, the database, the internet and the language model. */ -}}
{{- define "luthier.backendEnv" -}}
{{- if has "kubernetes" .workload.needs }}
LUTHIER_TRAINING_LAUNCHER: kubernetes
LUTHIER_JOB_TEMPLATE: /etc/luthier/jobs/training-run.yaml
LUTHIER_JOB_OWNER: {{ include "luthier.fullname" (dict "root" .root "component" "jobs") }}
{{- end }}
{{- if and .server (eq .component "inference") .root.Values.credentials.existingSecret }}
LUTHIER_CREDENTIALS_CERTIFICATE: /etc/luthier/credentials/tls.crt
LUTHIER_CREDENTIALS_KEY: /etc/luthier/credentials/tls.key
{{- end }}
{{- with .root.Values.credentials }}
{{- if and $.server (eq $.component "inference") .timeStamps.authority }}
LUTHIER_CREDENTIALS_AUTHORITY: {{ .timeStamps.authority | quote }}
LUTHIER_CREDENTIALS_AUTHORITY_S: {{ .timeStamps.timeoutSeconds | quote }}
LUTHIER_CREDENTIALS_TIME_STAMP: {{ ternary "required" "wanted" .timeStamps.required }}
{{- else if .timeStamps.required }}
{{- if not .timeStamps.authority }}{{ fail "credentials.timeStamps.required needs credentials.timeStamps.authority" }}{{ end }}
{{- end }}
{{- if and $.server (eq $.component "inference") .trust.existingConfigMap }}
LUTHIER_CREDENTIALS_TRUST: /etc/luthier/trust/trust.pem
{{- end }}
{{- end }}
{{- if and .server (eq .component "inference") .root.Values.promptsLeftOut.existingSecret }}
LUTHIER_PROMPTS: leave-out
LUTHIER_PROMPT_KEY_FILE: /etc/luthier/prompts/prompt-key
{{- end }}
{{- if and .server (eq .component "inference") .root.Values.auth.quotas }}
{{- if not (or .root.Values.auth.callersSecret (eq .root.Values.tls.clientAuth "mutual")) }}
{{- fail "auth.quotas needs auth.callersSecret (or tls.clientAuth: mutual): without it callers have no names" }}
{{- end }}
{{- $quotas := list }}
{{- range $caller, $bounds := .root.Values.auth.quotas }}
{{- $each := list }}
{{- range $name, $bound := $bounds }}{{ $each = append $each (printf "%s:%s" $name (toJson $bound)) }}{{ end }}
{{- $quotas = append $quotas (printf "%s=%s" $caller (join "+" $each)) }}
{{- end }}
LUTHIER_CALLER_QUOTAS: {{ join "," $quotas | quote }}
{{- end }}
{{- $watermark := .root.Values.credentials.watermark }}
{{- if and .server (eq .component "inference") (or $watermark.program $watermark.existingSecret) }}
LUTHIER_WATERMARK: {{ required "credentials.watermark.existingSecret needs credentials.watermark.program" $watermark.program }}
LUTHIER_WATERMARK_KEY: /etc/luthier/watermark/key
{{- end }}
{{- if has "database" .workload.needs }}
{{- if .root.Values.database.existingSecret }}
LUTHIER_DATABASE_URL_FILE: /etc/luthier/database/url
LUTHIER_MIGRATE: "0"
{{- else }}
LUTHIER_DATABASE_URL: sqlite:////data/curation.sqlite3
LUTHIER_MIGRATE: "1"
{{- end }}
{{- end }}
{{- if has "internet" .workload.needs }}
LUTHIER_ENRICHMENT_WORKERS: {{ include "luthier.sharers" . | quote }}
{{- end }}
{{- if and (has "llm" .workload.needs) (include "luthier.llmUrl" .root) }}
LUTHIER_PROMPTING_BACKEND: vllm
LUTHIER_VLLM_URL: {{ include "luthier.llmUrl" .root }}
LUTHIER_VLLM_MODEL: {{ include "luthier.llmModel" .root | quote }}
LUTHIER_SLOTS: "16" # its calls wait for the model, which computes them together
{{- if .root.Values.llm.external.existingSecret }}
LUTHIER_VLLM_API_KEY_FILE: /etc/luthier/llm/api-key
{{- end }}
{{- end }}
{{- end }}

{{- /* The most Pods that a service may have, which share the rates of what they ask on the internet. */ -}}
{{- define "luthier.sharers" -}}
{{- $pods := max 1 (int (default 1 .workload.replicas)) }}
{{- with .workload.autoscaling }}{{ if .enabled }}{{ $pods = max 1 (int .maxReplicas) }}{{ end }}{{ end }}
{{- if gt (int $pods) 10 }}
{{- fail (printf "services.%s: %d Pods would share the rate of one address; at most 10, and more than 2 ask no faster" .component $pods) }}
{{- end }}
{{- $pods }}
{{- end }}

{{- define "luthier.llmUrl" -}}
{{- if and .Values.llm.vllm.enabled .Values.llm.external.url }}
{{- fail "llm.vllm.enabled and llm.external.url exclude each other" }}
{{- end -}}
{{- if .Values.llm.vllm.enabled -}}
http://{{ include "luthier.host" (dict "root" . "component" "vllm") }}:8000/v1
{{- else -}}
{{ .Values.llm.external.url }}
{{- end }}
{{- end }}

{{- define "luthier.llmModel" -}}
{{- if .Values.llm.vllm.enabled }}
{{- include "luthier.required" (list "llm.vllm.model.name is missing: the name that prompting asks for" .Values.llm.vllm.model.name) }}
{{- else }}
{{- include "luthier.required" (list "llm.external.model is missing: the name that the server serves" .Values.llm.external.model) }}
{{- end }}
{{- end }}

{{- define "luthier.callsEnv" -}}
{{- $root := .root }}
{{- $auth := $root.Values.auth }}
{{- if and $auth.callersSecret (not $auth.tokenSecret) (ne $root.Values.tls.clientAuth "mutual") }}
{{- fail "auth.callersSecret needs auth.tokenSecret (or tls.clientAuth: mutual): without it Luthier's own callers have no credentials" }}
{{- end }}
{{- range .workload.calls }}
LUTHIER_{{ upper . }}_ADDRESS: {{ include "luthier.host" (dict "root" $root "component" .) }}:7100
{{- end }}
{{- if .workload.calls }}
{{- if .root.Values.auth.tokenSecret }}
LUTHIER_TOKEN_FILE: /etc/luthier/token/token
{{- end }}
{{- if .root.Values.tls.secret }}
LUTHIER_TLS_CA: /etc/luthier/tls/ca.crt
{{- end }}
{{- if eq .root.Values.tls.clientAuth "mutual" }}
LUTHIER_TLS_CLIENT_CERT: /etc/luthier/tls/tls.crt
LUTHIER_TLS_CLIENT_KEY: /etc/luthier/tls/tls.key
{{- end }}
{{- end }}
{{- end }}

{{- define "luthier.telemetryEnv" -}}
{{- with .root.Values.telemetry.otlpEndpoint }}
OTEL_EXPORTER_OTLP_ENDPOINT: {{ . }}
OTEL_RESOURCE_ATTRIBUTES: {{ printf "k8s.namespace.name=%s,service.namespace=%s" $.root.Release.Namespace $.root.Release.Name }}
{{- end }}
{{- end }}
