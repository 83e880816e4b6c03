#!/usr/bin/env bash
# Runs the suite against moto's server: makes an environment of Python below target/, installs moto[server] into it,
# starts the server on a free port of 127.0.0.1, makes the bucket, runs `cargo test`, ends the server by its id.
# Arguments go to `cargo test`.
set -euo pipefail
cd "$(dirname "$0")"
environment=target/moto
[ -x "$environment/bin/moto_server" ] || {
    python3 -m venv "$environment"
    "$environment/bin/pip" install --quiet 'moto[server]'
}
port=$("$environment/bin/python" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
"$environment/bin/moto_server" -H 127.0.0.1 -p "$port" >target/moto.log 2>&1 &
server=$!
trap 'kill "$server" 2>/dev/null || true; wait "$server" 2>/dev/null || true' EXIT
for _ in $(seq 100); do
    curl --silent --noproxy '*' --output /dev/null "http://127.0.0.1:$port/moto-api/" && break
    kill -0 "$server" || { cat target/moto.log; exit 1; }
    sleep 0.2
done
export AIDB_S3_ENDPOINT=http://127.0.0.1:$port AIDB_S3_BUCKET=aidb-tests
export AIDB_S3_ACCESS_KEY=AKIDMOTO AIDB_S3_SECRET_KEY=secret-of-moto
# A bucket is made with a plain PUT; the host and credential tell moto that S3 is meant.
curl --silent --show-error --fail --noproxy '*' --request PUT --output /dev/null \
    --header 'Authorization: AWS4-HMAC-SHA256 Credential=AKIDMOTO/20200101/us-east-1/s3/aws4_request' \
    "$AIDB_S3_ENDPOINT/$AIDB_S3_BUCKET"
cargo test "$@"
