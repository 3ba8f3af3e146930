{{- /* Volumes of the Pods that run Luthier's own code. All but luthier.secretSource take what luthier.env takes. */ -}}

{{- /* YAML list, one item for each volume: name, mount (path in the container), source (a volume source of Kubernetes). */ -}}
{{- define "luthier.mountedVolumes" -}}
{{- $values := .root.Values }}
{{- $serves := and .server (has "grpc" .workload.serves) }}
- {name: tmp, mount: /tmp, source: {emptyDir: {sizeLimit: {{ .workload.tmp }}}}}
- {name: scratch, mount: /scratch, source: {emptyDir: {sizeLimit: {{ .workload.scratch }}}}}
{{- if .workload.sharedMemory }}
- {name: shm, mount: /dev/shm, source: {emptyDir: {medium: Memory, sizeLimit: {{ .workload.sharedMemory }}}}}
{{- end }}
{{- if and (has "store" .workload.needs) (eq $values.store.s3.auth "webIdentity") }}
- {name: identity, mount: /etc/luthier/identity, source: {projected: {defaultMode: 0440, sources: [{serviceAccountToken: {audience: {{ $values.store.s3.sts.audience }}, expirationSeconds: 3600, path: token}}]}}}
{{- end }}
{{- if and (has "store" .workload.needs) (eq $values.store.s3.auth "static") }}
{{- $name := include "luthier.s3Secret" . }}
- {name: s3, mount: /etc/luthier/s3, source: {{ include "luthier.secretSource" (dict "secret" $name "keys" (list "access-key" "secret-key")) }}}
{{- end }}
{{- if has "database" .workload.needs }}
{{- if $values.database.existingSecret }}
- {name: database, mount: /etc/luthier/database, source: {{ include "luthier.secretSource" (dict "secret" $values.database.existingSecret "keys" (list "url")) }}}
{{- else }}
- {name: data, mount: /data, source: {persistentVolumeClaim: {claimName: {{ include "luthier.fullname" . }}}}}
{{- end }}
{{- end }}
{{- if and (has "llm" .workload.needs) $values.llm.external.existingSecret }}
- {name: llm, mount: /etc/luthier/llm, source: {{ include "luthier.secretSource" (dict "secret" $values.llm.external.existingSecret "keys" (list "api-key")) }}}
{{- end }}
{{- if and .server (eq .component "inference") $values.credentials.existingSecret }}
- {name: credentials, mount: /etc/luthier/credentials, source: {{ include "luthier.secretSource" (dict "secret" $values.credentials.existingSecret "keys" (list "tls.crt" "tls.key")) }}}
{{- end }}
{{- if and .server (eq .component "inference") $values.credentials.trust.existingConfigMap }}
- {name: trust, mount: /etc/luthier/trust, source: {configMap: {name: {{ $values.credentials.trust.existingConfigMap }}, items: [{key: trust.pem, path: trust.pem}]}}}
{{- end }}
{{- if and .server (eq .component "inference") $values.promptsLeftOut.existingSecret }}
- {name: prompts, mount: /etc/luthier/prompts, source: {{ include "luthier.secretSource" (dict "secret" $values.promptsLeftOut.existingSecret "keys" (list "prompt-key")) }}}
{{- end }}
{{- if and .server (eq .component "inference") (or $values.credentials.watermark.program $values.credentials.watermark.existingSecret) }}
{{- $key := required "credentials.watermark.program needs credentials.watermark.existingSecret" $values.credentials.watermark.existingSecret }}
- {name: watermark, mount: /etc/luthier/watermark, source: {{ include "luthier.secretSource" (dict "secret" $key "keys" (list "key")) }}}
{{- end }}
{{- if has "kubernetes" .workload.needs }}
- {name: jobs, mount: /etc/luthier/jobs, source: {configMap: {name: {{ include "luthier.fullname" (dict "root" .root "component" "jobs") }}}}}
{{- end }}
{{- if and $serves $values.auth.callersSecret }}
- {name: callers, mount: /etc/luthier/callers, source: {secret: {secretName: {{ $values.auth.callersSecret }}, defaultMode: 0440}}}
{{- end }}
{{- if and .workload.calls $values.auth.tokenSecret }}
- {name: token, mount: /etc/luthier/token, source: {secret: {secretName: {{ $values.auth.tokenSecret }}, defaultMode: 0440, items: [{key: {{ .component }}, path: token}]}}}
{{- end }}
{{- if and (or $serves .workload.calls) $values.tls.secret }}
{{- /* The private key goes to servers, and to clients only where they authenticate with it (mutual TLS). */}}
{{- $key := or $serves (eq $values.tls.clientAuth "mutual") }}
- {name: tls, mount: /etc/luthier/tls, source: {secret: {secretName: {{ include "luthier.tlsSecret" . }}, defaultMode: 0440{{ if not $key }}, items: [{key: ca.crt, path: ca.crt}]{{ end }}}}}
{{- end }}
{{- $secrets := dict }}
{{- range $ref := .workload.secretFiles }}
{{- $_ := set $secrets $ref.secret (append (get $secrets $ref.secret | default list) $ref.key) }}
{{- end }}
{{- range $i, $secret := keys $secrets | sortAlpha }}
{{- $keys := get $secrets $secret }}
- {name: secret-{{ $i }}, mount: /etc/luthier/secrets/{{ $secret }}, source: {{ include "luthier.secretSource" (dict "secret" $secret "keys" (uniq $keys)) }}}
{{- end }}
{{- end }}

{{- /* The Secret with the certificate of a component: its own, else the one for all. */ -}}
{{- define "luthier.tlsSecret" -}}
{{- $own := .root.Values.tls.componentSecrets }}
{{- $connections := include "luthier.connections" .root | fromYaml }}
{{- range $name, $_ := $own }}
{{- if not (hasKey $connections $name) }}
{{- fail (printf "tls.componentSecrets: there is no component %q; there are %s" $name (keys $connections | sortAlpha | join ", ")) }}
{{- end }}
{{- end }}
{{- get $own .component | default .root.Values.tls.secret }}
{{- end }}

{{- /* A volume source: (dict "secret" name "keys" list). */ -}}
{{- define "luthier.secretSource" -}}
{secret: {secretName: {{ .secret }}, defaultMode: 0440, items: [{{ range $i, $key := .keys }}{{ if $i }}, {{ end }}{key: {{ $key }}, path: {{ $key }}}{{ end }}]}}
{{- end }}

{{- define "luthier.volumes" -}}
{{- range include "luthier.mountedVolumes" . | fromYamlArray }}
- name: {{ .name }}
  {{- toYaml .source | nindent 2 }}
{{- end }}
{{- with .pod.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "luthier.volumeMounts" -}}
{{- range include "luthier.mountedVolumes" . | fromYamlArray }}
- {name: {{ .name }}, mountPath: {{ .mount }}{{ if not (has .name (list "tmp" "scratch" "shm" "data")) }}, readOnly: true{{ end }}}
{{- end }}
{{- with .pod.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end }}
