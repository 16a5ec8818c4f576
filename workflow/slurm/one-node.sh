#!/usr/bin/env bash
# A SLURM of one node, this machine, to try the pipeline on: `one-node.sh start` and `one-node.sh stop`, as root, on
# Debian or Ubuntu, in a container too (it needs neither systemd nor cgroups). It keeps no accounts. A SLURM that is
# set up otherwise is left alone.
set -euo pipefail

CONF=/etc/slurm/slurm.conf
MARK="# written by workflow/slurm/one-node.sh"
STATE=/var/lib/vggkit-slurm
HOST=$(hostname -s)

fail() {
    echo "one-node.sh: $1" >&2
    exit 2
}

answers() { # within some seconds: does the node take jobs?
    for _ in $(seq 60); do
        [ "$(timeout 10 sinfo -h -o %T 2>/dev/null)" = idle ] && return 0
        sleep 1
    done
    return 1
}

running() { # the process of this program that was started here
    [ -s "$STATE/$1.pid" ] && kill -0 "$(cat "$STATE/$1.pid")" 2>/dev/null
}

start() {
    if ! command -v slurmctld >/dev/null || ! command -v munged >/dev/null; then
        apt-get update -qq
        DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends slurm-wlm munge >/dev/null
    fi
    if [ -e "$CONF" ] && ! grep -qxF "$MARK" "$CONF"; then
        fail "$CONF is there already and of somebody else; remove it to have this script write its own"
    fi
    mkdir -p "$STATE/ctld" "$STATE/d" /etc/slurm
    cat >"$CONF" <<CONF
$MARK
ClusterName=vggkit
SlurmctldHost=$HOST
SlurmUser=root
StateSaveLocation=$STATE/ctld
SlurmdSpoolDir=$STATE/d
SlurmctldPidFile=$STATE/slurmctld.pid
SlurmdPidFile=$STATE/slurmd.pid
SlurmctldLogFile=$STATE/slurmctld.log
SlurmdLogFile=$STATE/slurmd.log
# Neither systemd nor cgroups are needed.
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
# Jobs share the node by the core.
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
NodeName=$HOST CPUs=$(nproc) RealMemory=$(awk '/^MemTotal/ {print int($2 / 1024)}' /proc/meminfo) State=UNKNOWN
PartitionName=main Nodes=$HOST Default=YES MaxTime=INFINITE State=UP
CONF
    if ! munge -n >/dev/null 2>&1; then # no daemon answers
        [ -s /etc/munge/munge.key ] || /usr/sbin/mungekey --create
        install -d -o munge -g munge /run/munge /var/log/munge
        chown munge: /etc/munge/munge.key
        setpriv --reuid=munge --regid=munge --clear-groups /usr/sbin/munged
    fi
    running slurmctld || /usr/sbin/slurmctld
    running slurmd || /usr/sbin/slurmd
    answers || fail "the node takes no jobs; see $STATE/slurmctld.log and $STATE/slurmd.log"
    sinfo
}

stop() {
    for daemon in slurmd slurmctld; do
        if running "$daemon"; then
            kill "$(cat "$STATE/$daemon.pid")"
        fi
    done
}

case ${1:-} in
    start | stop)
        [ "$(id -u)" = 0 ] || fail "it has to be called as root"
        "$1"
        ;;
    *) fail "call it with start or stop" ;;
esac
