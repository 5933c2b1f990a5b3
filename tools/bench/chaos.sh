#!/usr/bin/env bash
# Lets `kontiki chaos run` do its scenarios one after the other for some minutes, and writes docs/benchmarks-chaos.md: what each cost
# the requests of others, and what memory is held afterwards.
# usage: tools/bench/chaos.sh KONTIKI MINUTES   (a release build; root; kubectl on the PATH)
set -euo pipefail
here=$(cd "$(dirname "$0")/../.." && pwd)
kontiki=$1 minutes=$2
files=$("$here/tools/test-files.sh")
work=$(mktemp -d)
name=chaos-bench
export KONTIKI_STATE=$work/state KUBECONFIG=$work/kubeconfig
finish() {
  "$kontiki" down --name $name >/dev/null 2>&1 || true
  rm -rf "$work"
}
trap finish EXIT
say() { echo "$*" >&2; }
k() { kubectl --cache-dir="$work/cache" "$@"; }
# The largest resident process of a kind, in MB.
resident() {
  local pid
  for pid in $(pgrep -f "kontiki $1 --config $work/"); do awk '/VmRSS/ {print int($2 / 1024)}' "/proc/$pid/status"; done | sort -n | tail -1
}

"$kontiki" up --name $name --port 27543 >/dev/null
"$kontiki" image import "$files/nginx.tar" --name $name >/dev/null
k create deployment web --image=imported.example/nginx:1.21 --replicas=4 >/dev/null
k expose deployment web --type=NodePort --port=80 --overrides='{"spec":{"ports":[{"port":80,"nodePort":31980}]}}' >/dev/null
k rollout status deployment/web --timeout=60s >/dev/null
sleep 60
before="$(resident server) $(resident agent)"
began=$SECONDS round=0
until [ $((SECONDS - began)) -ge $((minutes * 60)) ]; do
  round=$((round + 1))
  for scenario in $("$kontiki" chaos list | awk '{print $1}'); do
    [ $((SECONDS - began)) -lt $((minutes * 60)) ] || break
    say "round $round: $scenario"
    "$kontiki" chaos run "$scenario" --seed $round --probe http://127.0.0.1:31980/ --name $name >"$work/log" || { cat "$work/log" >&2; exit 1; }
    # scenario, writes, those of them that are there, longest time without one, requests, failed ones
    awk -v scenario="$scenario" '
      / writes acknowledged, / {writes = $3; kept = $6; silence = $(NF - 1)}
      / requests were answered$/ {asked = $6; failed = 0}
      / requests failed, from / {failed = $4; asked = $6}
      END {print scenario, writes, kept, silence, asked, failed}' "$work/log" >>"$work/runs"
  done
done
took=$(((SECONDS - began) / 60))
sleep 60
after="$(resident server) $(resident agent)"
"$kontiki" status --name $name >&2
rows=$(awk '
  !($1 in runs) {order[++kinds] = $1}
  {runs[$1]++; writes[$1] += $2; kept[$1] += $3; if ($4 > silence[$1]) silence[$1] = $4; asked[$1] += $5; failed[$1] += $6}
  END {for (n = 1; n <= kinds; n++) {s = order[n]; printf "| %s | %d | %d, %d lost | %.1f s | %d of %d |\n", s, runs[s], writes[s], writes[s] - kept[s], silence[s], failed[s], asked[s]}}' "$work/runs")
table="# Chaos in figures

Written by \`make bench-chaos MINUTES=$minutes\` on $(nproc) cores, Linux $(uname -r): three servers and two agents on one machine, four nginx
behind a node port that is asked ten times a second without retries. After $took minutes and $(wc -l <"$work/runs") runs the largest server
held ${after% *} MB (${before% *} MB before), the largest agent ${after#* } MB (${before#* } MB before), each a minute after the last fault.

| scenario | runs | acknowledged writes | longest time without one | requests that failed |
|--|--|--|--|--|
$rows
"
printf '%s\n' "$table"
printf '%s' "$table" >"$here/docs/benchmarks-chaos.md"
