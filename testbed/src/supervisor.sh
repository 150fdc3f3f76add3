# Runs one server and ends it when nobody holds the other end of its standard input any more.
# Arguments: the folder of the server, which is deleted at the end, then the server and its arguments.
# Orders, one a line: start, stop SIGNAL, signal SIGNAL, alive. Each is answered by one line.
folder=$1
shift
server=

end() {
    trap '' TERM INT HUP
    if [ -n "$server" ]; then
        kill -s CONT "$server"
        kill -s "$last" "$server"
        wait "$server"
    fi
    kill -s TERM 0 # whatever it started and left
    rm -rf "$folder"
} 2>/dev/null

# The signal that ends the server at once without leaving anything behind.
last=$1
shift

# A process that ended is there until the shell waits for it, and says so in the third field of its state.
is_alive() {
    state=
    if [ -d /proc/self ]; then read -r _ _ state _ <"/proc/$server/stat"; fi
    [ "$state" != Z ] && kill -s 0 "$server"
} 2>/dev/null

while read -r order signal; do
    case $order in
    start)
        "$@" </dev/null >>"$folder/log" 2>&1 &
        server=$!
        echo "$server"
        ;;
    stop)
        kill -s "$signal" "$server" 2>/dev/null
        kill -s CONT "$server" 2>/dev/null # a stopped process would not hear of it
        wait "$server" 2>/dev/null
        server=
        echo stopped
        ;;
    signal) kill -s "$signal" "$server" && echo sent ;;
    alive) if is_alive; then echo yes; else echo no; fi ;;
    esac
done
end
