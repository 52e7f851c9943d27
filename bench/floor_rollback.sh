#!/usr/bin/env bash
# From an image that was built earlier to its answer through the proxy, by hand.
. "${BASH_SOURCE[0]%/*}/floor.sh"

mark begin
run_container "$IMAGE"
mark run
until_ready
mark ready
switch
mark switch
until_it_answers
mark answer
