#!/usr/bin/env bash
# Measures against etcd in the same run, and a whole local cluster; prints a table and writes docs/benchmarks.md.
# usage: tools/bench.sh KONTIKI LOAD API_LOAD POD_LOAD   (release builds; root; kubectl on the PATH)
set -euo pipefail
here=$(cd "$(dirname "$0")/.." && pwd)
kontiki=$1 load=$2 api_load=$3 pod_load=$4
files=$("$here/tools/test-files.sh")
work=$(mktemp -d)
export KONTIKI_STATE=$work/state KUBECONFIG=$work/kubeconfig ETCDCTL_API=3
declare -A pids
finish() {
  [ ${#pids[@]} -eq 0 ] || kill -9 "${pids[@]}" 2>/dev/null || true
  "$kontiki" down --name bench >/dev/null 2>&1 || true
  rm -rf "$work"
}
trap finish EXIT
now() { date +%s%3N; }
say() { echo "$*" >&2; }
median() { sort -n | awk '{all[NR] = $1} END {print all[int((NR + 1) / 2)]}'; }
ratio() { awk -v a="$1" -v b="$2" 'BEGIN {printf "%.2f", a / b}'; }
# milliseconds of what Rust prints of a duration
milliseconds() { awk -v d="$1" 'BEGIN {v = d + 0; if (d ~ /µs$/) v /= 1000; else if (d ~ /ns$/) v /= 1e6; else if (d !~ /ms$/) v *= 1000; printf "%.2f", v}'; }

. "$here/tools/bench/store.sh"
store_bench
# For trying: the store alone, on the screen alone.
[ "${ONLY:-}" != store ] || { store_rows; exit; }

say "one server"
"$kontiki" up --name bench --port 27443 --servers 1 --agents 0 >"$work/up.log"
alone=$(sed -n 's/.*servers ready after \([0-9.]*\) s.*/\1/p' "$work/up.log")
"$kontiki" down --name bench >/dev/null
say "a local cluster"
began=$(now)
# A node counts as lost after so many seconds without a word, and a pod of the test leaves it so many seconds later.
grace=14 tolerated=3
KONTIKI_NODE_MONITOR_GRACE_PERIOD_SECONDS=$grace "$kontiki" up --name bench --port 27443 >"$work/up.log"
up=$(($(now) - began))
"$kontiki" image import "$files/nginx.tar" --name bench >/dev/null
k() { kubectl --cache-dir="$work/cache" "$@"; }
say "pods"
image=imported.example/nginx:1.21
"$pod_load" "$KUBECONFIG" $image 50 | tee "$work/pods" >&2
pods_of() { sed -n "s|^$1: \([0-9]*\)/s, p50 \([^,]*\), p99 \([^,]*\),.*|\1 \2 \3|p" "$work/pods"; }
read -r _ alone_p50 alone_p99 < <(pods_of alone)
read -r together_rate together_p50 together_p99 < <(pods_of together)
say "the loss of a node"
k apply -f - >/dev/null <<EOF
apiVersion: apps/v1
kind: Deployment
metadata: {name: lost}
spec:
  replicas: 2
  selector: {matchLabels: {app: lost}}
  template:
    metadata: {labels: {app: lost}}
    spec:
      tolerations:
        - {key: node.kubernetes.io/unreachable, operator: Exists, effect: NoExecute, tolerationSeconds: $tolerated}
        - {key: node.kubernetes.io/not-ready, operator: Exists, effect: NoExecute, tolerationSeconds: $tolerated}
      topologySpreadConstraints:
        - {maxSkew: 1, topologyKey: kubernetes.io/hostname, whenUnsatisfiable: DoNotSchedule, nodeTaintsPolicy: Honor, labelSelector: {matchLabels: {app: lost}}}
      containers: [{name: main, image: "$image"}]
EOF
k rollout status deployment/lost --timeout=60s >/dev/null
began=$(now)
"$kontiki" node isolate agent-2 --name bench >/dev/null
until [ "$(k get pods -l app=lost --field-selector=spec.nodeName=agent-1,status.phase=Running -o name | wc -l)" = 2 ]; do
  [ $(($(now) - began)) -lt 120000 ] || { say "no pod came elsewhere"; exit 1; }
done
elsewhere=$(($(now) - began))
"$kontiki" node rejoin agent-2 --name bench >/dev/null
k delete deployment lost >/dev/null
k create deployment rest --image=$image --replicas=20 >/dev/null
k rollout status deployment/rest --timeout=60s >/dev/null
say "waiting for the cluster to be idle"
sleep 60
resident() {
  local pid
  for pid in $(pgrep -f "kontiki $1 --config $work/"); do resident_of "$pid"; done | sort -n | tail -1
}
server_mb=$(resident server) agent_mb=$(resident agent)
shim_mb=$(for pid in $(pgrep kontiki-shim); do awk '/VmRSS/ {print $2 / 1024}' "/proc/$pid/status"; done | sort -n | tail -1)
say "load on the API"
"$api_load" "$KUBECONFIG" 64 5 | tee "$work/api" >&2
after_mb=$(resident server)
api_rows=$(sed -n 's/^\([a-z]*\): \(.*\)$/| API: \1, 64 clients, TLS, three servers | \2 | | | |/p' "$work/api")
table="# Benchmarks

Written by \`make bench\` on $(nproc) cores with $(awk '/MemTotal/ {printf "%.0f", $2 / 1048576}' /proc/meminfo) GiB, Linux $(uname -r). One run; everything shares the cores.
Figures of the store are medians of $rounds rounds of 5 s after a second that does not count, the two stores by turns.
A failover is the longest time without an answer to eight writers when the leader is killed with -9, over $kills kills of each store.

| what | Kontiki | peer in the same run | ratio | aim |
|--|--|--|--|--|
$(store_rows)
| \`up\`: 3 servers and 2 agents, all nodes Ready | $up ms | | | 5 s |
| one server: API ready after \`kontiki up\` was called, keys and namespaces made meanwhile | $alone s | | | 0.5 s after exec |
| pod: create to Running and ready, image on the node, one after the other | p50 $(milliseconds "$alone_p50") ms, p99 $(milliseconds "$alone_p99") ms | | | p50 150 ms |
| 50 pods at once on two nodes | p50 $(milliseconds "$together_p50") ms, p99 $(milliseconds "$together_p99") ms, $together_rate containers/s | | | |
| a node is cut off: its pod runs elsewhere, of that $grace s until it counts as lost and $tolerated s that the pod tolerates | $(awk -v ms=$elsewhere 'BEGIN {printf "%.1f", ms / 1000}') s | | | |
$api_rows
| largest resident \`server\`, 60 s after the last pod | $server_mb MB | | | 80 MB |
| largest resident \`server\` after the load on the API | $after_mb MB | | | |
| largest resident \`agent\`, with its pods | $agent_mb MB | | | 40 MB and 2 MB a pod |
| largest resident shim | $shim_mb MB | | | |

The clients share the cores with the members, which bounds what either store can show. The API's figures have no peer: no kube-apiserver
ran in the same run.
"
printf '%s\n' "$table"
printf '%s' "$table" >"$here/docs/benchmarks.md"
