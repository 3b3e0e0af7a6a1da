#!/bin/sh
# Stands in for systemd: one unit, of which it knows ExecStart, the condition and the signals.
set -e
pid=/run/systemd/unit.pid
control() {
    start-stop-daemon --quiet --pidfile "$pid" --name fairlead "$@"
}
case " $* " in
*" is-active "*)
    control --status
    ;;
*" kill "*)
    control --stop --signal USR1
    ;;
*" stop "*)
    control --stop --oknodo --retry TERM/30
    ;;
*" start "*)
    if [ -e /etc/fairlead/fairlead.yaml ] && ! control --status; then
        control --start --background --make-pidfile --output /run/systemd/unit.log --startas /usr/sbin/fairlead -- run
    fi
    ;;
*" preset "* | *" is-enabled "*)
    # These are about files only.
    exec /usr/bin/systemctl --root=/ "$@"
    ;;
*" daemon-reload "*) ;;
*" show "*)
    echo LoadState=loaded
    ;;
*)
    echo "systemctl $*: unknown here" >&2
    exit 1
    ;;
esac
