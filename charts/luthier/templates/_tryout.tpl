{{- define "luthier.minioSecret" -}}
{{ required "store.s3.existingSecret is missing: a Secret with the keys access-key and secret-key" .Values.store.s3.existingSecret }}
{{- end }}

{{- define "luthier.postgresqlSecret" -}}
{{ .Values.database.existingSecret }}
{{- end }}

{{- define "luthier.minioContainer" -}}
args: [server, /data, --address, ":9000"]
env:
  - {name: HOME, value: /tmp}
  - {name: MINIO_ROOT_USER_FILE, value: /etc/luthier/secret/access-key}
  - {name: MINIO_ROOT_PASSWORD_FILE, value: /etc/luthier/secret/secret-key}
startupProbe: {httpGet: {path: /minio/health/ready, port: minio}, periodSeconds: 1, failureThreshold: 120}
readinessProbe: {httpGet: {path: /minio/health/ready, port: minio}, periodSeconds: 5}
livenessProbe: {httpGet: {path: /minio/health/live, port: minio}, periodSeconds: 20, failureThreshold: 6}
volumeMounts:
  - {name: data, mountPath: /data}
  - {name: tmp, mountPath: /tmp}
  - {name: secret, mountPath: /etc/luthier/secret, readOnly: true}
{{- end }}

{{- define "luthier.postgresqlContainer" -}}
env:
  - {name: HOME, value: /tmp}
  - {name: POSTGRES_USER, value: luthier}
  - {name: POSTGRES_DB, value: luthier}
  - {name: POSTGRES_PASSWORD_FILE, value: /etc/luthier/secret/password}
startupProbe: {tcpSocket: {port: postgresql}, periodSeconds: 1, failureThreshold: 120}
readinessProbe: {tcpSocket: {port: postgresql}, periodSeconds: 5}
livenessProbe: {tcpSocket: {port: postgresql}, periodSeconds: 20, failureThreshold: 6}
volumeMounts:
  - {name: data, mountPath: /var/lib/postgresql}
  - {name: run, mountPath: /var/run/postgresql}
  - {name: tmp, mountPath: /tmp}
  - {name: secret, mountPath: /etc/luthier/secret, readOnly: true}
{{- end }}
