# For all tests here: waits for what takes a moment, and says what never came.

await() {
    for _ in $(seq 480); do
        if "$@" >/dev/null 2>&1; then
            return
        fi
        sleep 0.5
    done
    echo "this did not become true within four minutes: $*" >&2
    exit 1
}

holds() {
    [ "$(cat "$1")" = "$2" ]
}
