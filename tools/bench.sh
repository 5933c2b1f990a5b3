#!/usr/bin/env bash
# Measures against etcd in the same run, and a whole local cluster; prints a table and writes docs/benchmarks.md.
# usage: tools/bench.sh KONTIKI LOAD MEMBER   (release builds; root; kubectl on the PATH)
set -euo pipefail
here=$(cd "$(dirname "$0")/.." && pwd)
kontiki=$1 load=$2 member=$3
files=$("$here/tools/test-files.sh")
etcd=$(command -v etcd || echo "$files/tools/usr/bin/etcd")
work=$(mktemp -d)
export KONTIKI_STATE=$work/state KUBECONFIG=$work/kubeconfig
pids=()
finish() {
  [ ${#pids[@]} -eq 0 ] || kill "${pids[@]}" 2>/dev/null || true
  "$kontiki" down --name bench >/dev/null 2>&1 || true
  rm -rf "$work"
}
trap finish EXIT
now() { date +%s%3N; }
say() { echo "$*" >&2; }

etcd_peers=m0=http://127.0.0.1:22380,m1=http://127.0.0.1:22381,m2=http://127.0.0.1:22382
own_peers=m0=http://127.0.0.1:23380,m1=http://127.0.0.1:23381,m2=http://127.0.0.1:23382
for n in 0 1 2; do
  "$etcd" --name m$n --data-dir "$work/etcd$n" --listen-client-urls http://127.0.0.1:2237$n --advertise-client-urls http://127.0.0.1:2237$n \
    --listen-peer-urls http://127.0.0.1:2238$n --initial-advertise-peer-urls http://127.0.0.1:2238$n --initial-cluster $etcd_peers >"$work/etcd$n.log" 2>&1 &
  pids+=($!)
done
etcd_ends=http://127.0.0.1:22370,http://127.0.0.1:22371,http://127.0.0.1:22372
own_ends=http://127.0.0.1:23370,http://127.0.0.1:23371,http://127.0.0.1:23372
for try in $(seq 100); do "$load" $etcd_ends 1 0 >/dev/null 2>&1 && break; sleep 0.1; done
# puts ENDPOINTS WRITERS SECONDS: "rate p50 p99"
puts() { "$load" "$1" "$2" "$3" 256 | sed -n 's|.*: \([0-9]*\)/s, p50 \([^,]*\), p99 \([^,]*\), .*|\1 \2 \3|p'; }
say "etcd: puts"
read -r etcd_many etcd_many_50 etcd_many_99 < <(puts $etcd_ends 128 10)
read -r etcd_one etcd_one_50 etcd_one_99 < <(puts $etcd_ends 1 5)
etcd_version=$("$etcd" --version | sed -n 's/etcd Version: //p')
kill "${pids[@]}"; wait "${pids[@]}" 2>/dev/null || true
pids=()
for n in 0 1 2; do
  "$member" m$n "$work/own$n" 2337$n 2338$n $own_peers >"$work/own$n.log" 2>&1 &
  pids+=($!)
done
for try in $(seq 100); do "$load" $own_ends 1 0 >/dev/null 2>&1 && break; sleep 0.1; done
say "kontiki: puts"
read -r own_many own_many_50 own_many_99 < <(puts $own_ends 128 10)
read -r own_one own_one_50 own_one_99 < <(puts $own_ends 1 5)
kill "${pids[@]}"; wait "${pids[@]}" 2>/dev/null || true
pids=()

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
  for pid in $(pgrep -f "kontiki $1 --config $work/"); do awk '/VmRSS/ {print int($2 / 1024)}' "/proc/$pid/status"; done | sort -n | tail -1
}
server_mb=$(resident server) agent_mb=$(resident agent)
shim_mb=$(for pid in $(pgrep kontiki-shim); do awk '/VmRSS/ {print $2 / 1024}' "/proc/$pid/status"; done | sort -n | tail -1)
ratio() { awk -v a="$1" -v b="$2" 'BEGIN {printf "%.2f", a / b}'; }
table="# Benchmarks

Written by \`make bench\` on $(nproc) cores with $(awk '/MemTotal/ {printf "%.0f", $2 / 1048576}' /proc/meminfo) GiB, Linux $(uname -r). One run; everything shares the cores.

| what | Kontiki | peer in the same run | ratio | aim |
|--|--|--|--|--|
| puts, 3 members, 128 writers, 256 bytes, no TLS | $own_many/s, p50 $own_many_50, p99 $own_many_99 | etcd $etcd_version: $etcd_many/s, p50 $etcd_many_50, p99 $etcd_many_99 | $(ratio "$own_many" "$etcd_many") | 3 |
| puts, 3 members, 1 writer | $own_one/s, p50 $own_one_50, p99 $own_one_99 | etcd $etcd_version: $etcd_one/s, p50 $etcd_one_50, p99 $etcd_one_99 | $(ratio "$own_one" "$etcd_one") | |
| \`up\`: 3 servers and 2 agents, all nodes Ready | $up ms | | | 5 s |
| create to Running, image on the node: two kubectl commands | p50 ${sorted[9]} ms, worst of 20 ${sorted[19]} ms; one kubectl command alone takes $kubectl_ms ms | | | 150 ms without kubectl |
| largest resident \`server\`, 60 s after the last pod | $server_mb MB | | | 80 MB |
| largest resident \`agent\`, with its pods | $agent_mb MB | | | 40 MB and 2 MB a pod |
| largest resident shim | $shim_mb MB | | | |

The clients share the cores with the members, which bounds what either store can show. Not measured here yet: creates and watch events
through the API, failover, readiness after exec, memory after a load.
"
printf '%s\n' "$table"
printf '%s' "$table" >"$here/docs/benchmarks.md"
