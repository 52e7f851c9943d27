#!/usr/bin/env bash
# From the newest commit of $REPOSITORY to its answer through the proxy, by hand.
. "${BASH_SOURCE[0]%/*}/floor.sh"

mark begin
git clone --quiet --depth 1 --single-branch --no-tags "file://$REPOSITORY" "$CHECKOUT"
mark clone
# shellcheck disable=SC2086 # several words on purpose
$BUILD --tag "$IMAGE" --label "$LABEL" "$CHECKOUT" >"$CHECKOUT.log" 2>&1
mark build
run_container "$IMAGE"
mark run
until_ready
mark ready
switch
mark switch
until_it_answers
mark answer
