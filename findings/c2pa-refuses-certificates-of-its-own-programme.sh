#!/usr/bin/env bash
# C2PA's conformance programme has certificates of signers made by a profile: their extended key usage is c2pa-kp-claimSigning beside
# document signing or e-mail protection (certificate policy 0.2). c2pa-python, with its defaults, refuses to sign by one for claim and
# document signing, and calls files that somebody signed by it Invalid. With e-mail protection it signs, so certificates that are made
# to try it out hide it. The setting trust.trust_config, a list of OIDs, adds what is allowed; it is about trust, says its name, yet it
# decides what signs at all.
# And a file whose signer's certificate has expired since is Invalid, as one that was changed is: only the codes of its faults tell
# them apart. A time stamp helps where the reader trusts whoever gave it.
# Guessed: the library of C2PA signs by a certificate of C2PA; Invalid means that the file was changed.
# Hurt: whoever gets a certificate of the programme, and whoever tells people by validation_state that a file was changed.
# Printed:
#   c2pa-python 0.38.1
#   e-mail protection and claim signing: signed
#   document signing and claim signing: manifest failed validation: certificate missing required EKU
#   document signing and claim signing, with trust_config: signed, Valid
#   seconds later, when the certificate has expired: Invalid, signingCredential.expired; the sound still matches: True
set -euo pipefail
t=$(mktemp -d); trap 'rm -rf "$t"' EXIT
if command -v uv >/dev/null; then uv venv -q -p 3.11 "$t/v"; get() { uv pip install -q -p "$t/v/bin/python" "$@"; }
else python3 -m venv "$t/v"; get() { "$t/v/bin/pip" install -q "$@"; }; fi
get c2pa-python==0.38.1 cryptography==46.0.3
cd "$t" && v/bin/python -W ignore - <<'PY'
import io, json, time, wave
from datetime import UTC, datetime, timedelta
from importlib.metadata import version

import c2pa
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

EMAIL, DOCUMENTS, CLAIMS = "1.3.6.1.5.5.7.3.4", "1.3.6.1.5.5.7.3.36", "1.3.6.1.4.1.62558.2.1"
NOT = dict.fromkeys(("key_encipherment", "data_encipherment", "key_agreement", "encipher_only", "decipher_only"), False)
MANIFEST = json.dumps({"claim_generator_info": [{"name": "finding", "version": "1"}], "title": "silence", "assertions": [
    {"label": "c2pa.actions.v2", "data": {"actions": [{"action": "c2pa.created",
     "digitalSourceType": "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"}]}}]})
authority = ec.generate_private_key(ec.SECP256R1())

def issued(uses, valid=timedelta(days=30)):
    """A certificate of these uses, with the authority's behind it, and its key, as PEM."""
    def name(of):
        return x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, of), x509.NameAttribute(NameOID.COMMON_NAME, of)])
    def made(key, subject, until):
        builder = x509.CertificateBuilder(name("Authority"), name(subject), key.public_key(), x509.random_serial_number(),
                                          datetime.now(UTC) - timedelta(days=1), datetime.now(UTC) + until)
        signs = subject == "Signer"
        builder = builder.add_extension(x509.BasicConstraints(ca=not signs, path_length=None), critical=True)
        builder = builder.add_extension(x509.KeyUsage(digital_signature=signs, content_commitment=signs,
                                        key_cert_sign=not signs, crl_sign=not signs, **NOT), critical=True)
        builder = builder.add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.public_key()), False)
        builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
        if signs:
            builder = builder.add_extension(x509.ExtendedKeyUsage(list(map(x509.ObjectIdentifier, uses))), False)
        return builder.sign(authority, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    key = ec.generate_private_key(ec.SECP256R1())
    chain = made(key, "Signer", valid) + made(authority, "Authority", timedelta(days=30))
    return chain, key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())

def signed(chain, key, **settings):
    plain, target = io.BytesIO(), io.BytesIO()
    with wave.open(plain, "wb") as file:
        file.setparams((1, 2, 44100, 0, "NONE", ""))
        file.writeframes(bytes(88200))
    plain.seek(0)
    info = c2pa.C2paSignerInfo(b"es256", chain, key, None)
    with c2pa.Context.from_dict(settings) as context, c2pa.Builder(MANIFEST, context=context) as builder:
        builder.sign(c2pa.Signer.from_info(info), "audio/wav", plain, target)
    return target.getvalue()

def read(data, **settings):
    with c2pa.Context.from_dict(settings) as context, c2pa.Reader("audio/wav", io.BytesIO(data), context=context) as reader:
        told = json.loads(reader.json())
    codes = told["validation_results"]["activeManifest"]
    return told["validation_state"], *({each["code"] for each in codes[kind]} for kind in ("failure", "success"))

def told(*arguments, **settings):
    try:
        signed(*arguments, **settings)
        return "signed"
    except c2pa.C2paError as error:
        assert "certificate missing required EKU" in str(error), error
        return "manifest failed validation: certificate missing required EKU"

print("c2pa-python", version("c2pa-python"))
allowed = {"trust": {"trust_config": f"{DOCUMENTS}\n{CLAIMS}"}}
email, documents = told(*issued((EMAIL, CLAIMS))), told(*issued((DOCUMENTS, CLAIMS)))
print("e-mail protection and claim signing:", email)
print("document signing and claim signing:", documents)
soon = signed(*issued((DOCUMENTS, CLAIMS), timedelta(seconds=4)), **allowed)
state, faults, _ = read(soon, **allowed)
print(f"document signing and claim signing, with trust_config: signed, {state}")
while True:
    later, codes, good = read(soon, **allowed)
    if later != state:
        break
    time.sleep(0.2)
codes.discard("signingCredential.untrusted")
matches = {"claimSignature.validated", "assertion.dataHash.match"} <= good
print(f"seconds later, when the certificate has expired: {later}, {', '.join(codes)}; the sound still matches: {matches}")
assert email == "signed" and documents != "signed"
assert (state, later, codes, matches) == ("Valid", "Invalid", {"signingCredential.expired"}, True)
PY
