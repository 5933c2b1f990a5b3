#!/usr/bin/env bash
# Measures against etcd in the same run, and a whole local cluster; prints a table and writes docs/benchmarks.md.
# usage: tools/bench.sh KONTIKI LOAD API_LOAD   (release builds; root; kubectl on the PATH)
set -euo pipefail
here=$(cd "$(dirname "$0")/.." && pwd)
kontiki=$1 load=$2 api_load=$3
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
"$kontiki" up --name bench --port 27443 >"$work/up.log"
up=$(($(now) - began))
"$kontiki" image import "$files/nginx.tar" --name bench >/dev/null
k() { kubectl --cache-dir="$work/cache" "$@"; }
k get nodes >/dev/null
began=$(now)
for n in $(seq 20); do k get --raw /readyz >/dev/null; done
kubectl_ms=$((($(now) - began) / 20))
times=()
for n in $(seq 20); do
  began=$(now)
  k run pod-$n --image=imported.example/nginx:1.21 --image-pull-policy=Never --restart=Never --command -- sleep 1000 >/dev/null
  k wait --for=jsonpath='{.status.phase}'=Running pod/pod-$n --timeout=30s >/dev/null
  times+=($(($(now) - began)))
done
sorted=($(printf '%s\n' "${times[@]}" | sort -n))
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
| create to Running, image on the node: two kubectl commands | p50 ${sorted[9]} ms, worst of 20 ${sorted[19]} ms; one kubectl command alone takes $kubectl_ms ms | | | 150 ms without kubectl |
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
