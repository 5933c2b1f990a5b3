# The store against etcd: sourced by tools/bench.sh, whose helpers it uses. `store_bench` measures, `store_rows` prints the table's rows.
# ETCD is the peer's binary, else the one on the PATH, else the one that tests use. MILLION=1 fills the stores with a million keys.
# ROUNDS, KILLS, KEYS, OWN_PORTS and ETCD_PORTS are for trying this out.
etcd=${ETCD:-$(command -v etcd || echo "$files/tools/usr/bin/etcd")}
etcdctl=${ETCDCTL:-$(command -v etcdctl || echo "$files/tools/usr/bin/etcdctl")}
rounds=${ROUNDS:-3} kills=${KILLS:-7} keys=${KEYS:-100000}
[ "${MILLION:-}" != 1 ] || keys=1000000
fill_bytes=1024 watchers=1000 members=3
pids=()
declare -A ports=([own]=${OWN_PORTS:-23} [etcd]=${ETCD_PORTS:-22})
etcd_version=$("$etcd" --version | sed -n 's/etcd Version: //p')
# Kontiki answers to etcd's name too, and would be compared with itself.
if "$etcd" --version | grep -qi kontiki; then say "$etcd is Kontiki, not etcd"; exit 1; fi
[ -n "$etcd_version" ] || { say "$etcd does not say its version"; exit 1; }

# start SYSTEM NUMBER: one member of `etcd` or `own`, with the same flags, in a cluster of $members
start() {
  local port=${ports[$1]} program=("$kontiki" store) n cluster=
  [ "$1" = etcd ] && program=("$etcd")
  for n in $(seq 0 $((members - 1))); do cluster+=,m$n=http://127.0.0.1:${port}38$n; done
  "${program[@]}" --name "m$2" --data-dir "$work/$1$2-of-$members" --listen-client-urls "http://127.0.0.1:${port}37$2" --advertise-client-urls "http://127.0.0.1:${port}37$2" \
    --listen-peer-urls "http://127.0.0.1:${port}38$2" --initial-advertise-peer-urls "http://127.0.0.1:${port}38$2" \
    --initial-cluster "${cluster#,}" --quota-backend-bytes 8589934592 >>"$work/$1$2.log" 2>&1 &
  pids[$1$2]=$!
}
stop_all() { kill -9 "${pids[@]}"; wait "${pids[@]}" 2>/dev/null || true; pids=(); }
ends() { local n all=; for n in $(seq 0 $((members - 1))); do all+=,http://127.0.0.1:${ports[$1]}37$n; done; echo "${all#,}"; }
ready() { "$load" "$(ends "$1")" $members 20 0 wait >/dev/null || { say "$1 does not start"; exit 1; }; }
# figures ENDPOINTS CLIENTS SECONDS BYTES WORK KEYS: "rate p50 p99 gap all", times in milliseconds, `all` with what the warm-up answered
figures() {
  local said count rate p50 p99 gap before
  said=$("$load" "$@") || { say "load $*: $said"; return 1; }
  read -r count rate p50 p99 gap before < <(
    sed -n 's|^\([0-9]*\) .*: \([0-9]*\)/s, p50 \([^,]*\), p99 \([^,]*\), longest gap \([^,]*\), unanswered [0-9]*, \([0-9]*\) before.*|\1 \2 \3 \4 \5 \6|p' <<<"$said")
  echo "$rate $(milliseconds "$p50") $(milliseconds "$p99") $(milliseconds "$gap") $((count + before))"
}
# The number of the member that leads.
leader() {
  # Without "http://", which an etcdctl of 3.4 would send as the authority; h2 refuses that.
  "$etcdctl" --endpoints="$(ends "$1" | sed 's|http://||g')" endpoint status -w fields 2>/dev/null | tr -d '"' | awk -F' : ' '
    $1 == "MemberID" {id = $2} $1 == "Leader" {leads = (id == $2)} $1 == "Endpoint" && leads {print substr($2, length($2))}' | head -1
}
# Processor time of a system's members so far, in microseconds.
busy() { local n sum=0; for n in $(seq 0 $((members - 1))); do sum=$((sum + $(awk -v hertz="$(getconf CLK_TCK)" '{print int(($14 + $15) * 1e6 / hertz)}' "/proc/${pids[$1$n]}/stat"))); done; echo $sum; }
# by_turns WORK CLIENTS [BYTES]: rounds of 5 s, the systems by turns, into files; the last column is the members' processor time for one
by_turns() {
  local round system before found file=$members-$1-$2
  say "$members members: $1 with $2 clients"
  for round in $(seq "$rounds"); do
    for system in etcd own; do
      before=$(busy $system)
      found=$(figures "$(ends $system)" "$2" 5 "${3:-256}" "$1")
      echo "$found $((($(busy $system) - before) / ${found##* }))" >>"$work/$system-$file"
    done
  done
}
of() { cut -d' ' -f"$3" <"$work/$1-$2" | median; }
figure() { echo "$(of "$1" "$2" 1)/s, p50 $(of "$1" "$2" 2) ms, p99 $(of "$1" "$2" 3) ms"; }
row() { # FILE AIM WHAT
  echo "| $3 | $(figure own "$1"), $(of own "$1" 6) µs of the members' processors each | etcd $etcd_version: $(figure etcd "$1"), $(of etcd "$1" 6) µs each | $(ratio "$(of own "$1" 1)" "$(of etcd "$1" 1)") | $2 |"
}
resident_of() { awk '/VmRSS/ {print int($2 / 1024)}' "/proc/$1/status"; }
anonymous_of() { awk '/RssAnon/ {print int($2 / 1024)}' "/proc/$1/status"; }

# What tonic answers when nothing is behind it, as often as the rounds of the others.
echo_rounds() {
  local clients round address=127.0.0.1:${ports[own]}390
  "$load" serve-echo "$address" 2>>"$work/echo.log" &
  pids[echo]=$!
  "$load" "http://$address" 1 20 0 wait >/dev/null
  for clients in 256 1; do
    say "bare echo with $clients clients"
    for round in $(seq "$rounds"); do figures "http://$address" $clients 5 256 echo >>"$work/echo-$clients"; done
  done
  kill "${pids[echo]}"; wait "${pids[echo]}" 2>/dev/null || true
  unset 'pids[echo]'
}
failovers() {
  local round system victim loading
  say "failover"
  for round in $(seq "$kills"); do
    for system in etcd own; do
      victim=$(leader $system)
      figures "$(ends $system)" 8 4 256 >"$work/round" &
      loading=$!
      sleep 1
      kill -9 "${pids[$system$victim]}"; wait "${pids[$system$victim]}" 2>/dev/null || true
      wait $loading
      cut -d' ' -f4 <"$work/round" >>"$work/$system-gaps"
      start $system "$victim"
      ready $system
    done
  done
}
gaps() { sort -n "$work/$1-gaps" | awk '{all[NR] = $1} END {printf "median %d ms, worst %d ms", all[int((NR + 1) / 2)], all[NR]}'; }

# filled SYSTEM: one member with many keys. What it needs, how soon it answers after kill -9, and how long it makes eight slow writers wait.
filled() {
  local end before memory began revision loading seconds=$((10 + keys / 20000))
  say "$1: $keys keys"
  start "$1" 0; ready "$1"
  end=$(ends "$1") before=$(anonymous_of "${pids[${1}0]}")
  figures "$end" 256 3600 $fill_bytes fill $keys >"$work/$1-fill"
  memory="$(resident_of "${pids[${1}0]}") $(anonymous_of "${pids[${1}0]}")"
  kill -9 "${pids[${1}0]}"; wait "${pids[${1}0]}" 2>/dev/null || true
  began=$(now)
  start "$1" 0
  "$load" "$end" 1 600 0 wait >/dev/null
  echo $(($(now) - began)) >"$work/$1-start"
  echo "$memory $(anonymous_of "${pids[${1}0]}") $before" >"$work/$1-memory"
  # A tenth once more, so that there is something to compact.
  figures "$end" 256 3600 $fill_bytes fill $((keys / 10)) >/dev/null
  figures "$end" 8 $seconds 256 slow >"$work/$1-slow" &
  loading=$!
  sleep 2
  local ctl=("$etcdctl" --command-timeout=300s --endpoints="${end#http://}")
  revision=$("${ctl[@]}" get load/fill/00000000 -w fields | sed -n 's/^"Revision" : //p')
  "${ctl[@]}" compact "$revision" >/dev/null
  "${ctl[@]}" snapshot save "$work/$1.snapshot" >/dev/null 2>&1
  kill -0 $loading 2>/dev/null || { say "$1 compacts and saves for longer than $seconds s"; exit 1; }
  wait $loading
  stop_all
  rm -rf "$work/${1}0-of-1" "$work/$1.snapshot"
}
memory_of() {
  awk -v keys="$keys" '{printf "%d MB, %d MB of it anonymous: %d bytes a key more than when empty, %d once it has been started again", $1, $2, ($2 - $4) * 1048576 / keys, ($3 - $4) * 1048576 / keys}' "$work/$1-memory"
}

store_bench() {
  local n clients work_name system
  for n in 0 1 2; do start etcd $n; start own $n; done
  ready etcd; ready own
  idle_etcd=$(resident_of "${pids[etcd0]}") idle_own=$(resident_of "${pids[own0]}")
  for clients in 256 64 1; do by_turns put $clients; done
  full_etcd=$(resident_of "${pids[etcd0]}") full_own=$(resident_of "${pids[own0]}")
  for work_name in read txn; do by_turns $work_name 256; done
  by_turns range 8
  by_turns fanout $watchers
  failovers
  stop_all
  echo_rounds
  members=1
  start etcd 0; start own 0
  ready etcd; ready own
  for clients in 256 1; do by_turns put $clients; done
  stop_all
  rm -rf "$work"/*0-of-1
  for system in etcd own; do filled $system; done
}

store_rows() {
  row 3-put-256 3 "puts, 3 members, 256 writers, 256 bytes, no TLS"
  row 3-put-64 3 "puts, 3 members, 64 writers"
  row 3-put-1 2 "puts, 3 members, 1 writer"
  row 1-put-256 "" "puts, 1 member, 256 writers"
  row 1-put-1 1.3 "puts, 1 member, 1 writer"
  row 3-read-256 2 "linearizable reads of one key, 3 members, 256 clients"
  row 3-range-8 5 "linearizable ranges of 10,000 keys of 256 bytes, 3 members, 8 clients"
  row 3-txn-256 3 "transactions, 3 members, 256 clients: compare the revision of a key, put it"
  row 3-fanout-$watchers 10 "events, 3 members, $watchers watchers on 10 connections, 200 puts one after the other; times from put to event"
  cat <<ROWS
| bare echo of tonic on loopback, what it costs to ask, 256 clients | $(figure echo 256) | | | |
| the same, 1 client | $(figure echo 1) | | | |
| failover of the store | $(gaps own) | etcd $etcd_version: $(gaps etcd) | | 1 s |
| resident store member, idle at first | $idle_own MB | etcd $etcd_version: $idle_etcd MB | | 40 MB |
| resident store member after these puts | $full_own MB | etcd $etcd_version: $full_etcd MB | | |
| $keys keys of 1 KB, 1 member: put by 256 writers | $(figure own fill) | etcd $etcd_version: $(figure etcd fill) | $(ratio "$(of own fill 1)" "$(of etcd fill 1)") | |
| resident with $keys keys | $(memory_of own) | etcd $etcd_version: $(memory_of etcd) | | 40 bytes a key beyond caches |
| first answer with $keys keys, after kill -9 | $(cat "$work/own-start") ms | etcd $etcd_version: $(cat "$work/etcd-start") ms | | |
| longest gap between answers to 8 slow writers while $keys keys are compacted and saved | $(of own slow 4) ms | etcd $etcd_version: $(of etcd slow 4) ms | | |
ROWS
}
