# Sourced by the two scripts of the floor. What a careful person would type to run a release beside the old one.
set -euo pipefail

# mark STAGE: how long it took since the mark before. Forks nothing.
mark() { printf '%s %s\n' "$EPOCHREALTIME" "$1" >&3; }

# The same flags as klepaas gives.
run_container() {
  "$DOCKER" run --detach --name "$NAME" --label "$LABEL" \
    --init --restart always --publish "127.0.0.1:$PORT:$APP_PORT" --env "PORT=$APP_PORT" \
    --memory 512m --memory-swap 512m --cpus 1 --pids-limit 512 \
    --security-opt no-new-privileges --cap-drop NET_RAW \
    --log-driver json-file --log-opt max-size=10m --log-opt max-file=3 \
    "$1" >/dev/null
}

until_ready() {
  until curl --silent --fail --output /dev/null "http://127.0.0.1:$PORT$HEALTH"; do sleep 0.01; done
}

switch() {
  printf '127.0.0.1:%s' "$PORT" >"$UPSTREAM.new"
  mv "$UPSTREAM.new" "$UPSTREAM"
}

until_it_answers() {
  until [ "$(curl --silent "http://127.0.0.1:$DOOR/version")" = "$WANTED" ]; do sleep 0.005; done
}
