//! A whole cluster and everything around it, moved on millisecond by millisecond.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use kontiki_store::{ClusterState, Handle, Options};
use parking_lot::Mutex;
use rand::Rng;
use rand::rngs::StdRng;

use crate::check::past::Past;
use crate::check::{self, linearizability, watch};
use crate::clock;
use crate::disk::{Disk, Speed};
use crate::entropy::{generator, mix};
use crate::faults::{self, Fault, Schedule};
use crate::history::History;
use crate::leases::{self, Leases};
use crate::member::Member;
use crate::mutations::Made;
use crate::network::{Latency, Network, host};
use crate::past;
use crate::reconfiguration::{Operator, Wish, knows_of_removal};
use crate::trace::Trace;
use crate::workload;

/// When faults begin, and end.
const FAULTS_MS: (u64, u64) = (1000, 6500);
/// Clients go on for this long once everything is whole.
const CALM_MS: u64 = 800;
/// Then the cluster has this long to agree.
const AGREE_MS: u64 = 20_000;

/// What a seed decides before anything happens.
#[derive(Debug)]
struct Plan {
    members: usize,
    latency: Latency,
    disk: Speed,
    clients: u64,
    pause_ms: u64,
    flush_entries: u64,
    keep_entries: u64,
    /// Whether clocks may go wrong; then nothing can be said of leases.
    clocks: bool,
    schedule: Schedule,
    /// Whether history is compacted.
    compacts: bool,
    /// Whether a member joins.
    grows: bool,
}

impl Plan {
    fn draw(random: &mut StdRng) -> Self {
        let members = 3;
        let clocks = random.random_bool(0.3);
        let mut plan = Self {
            members,
            latency: Latency { least_ms: random.random_range(1..4), spread_ms: random.random_range(0..8) },
            disk: Speed { sync_ms: random.random_range(0..10) },
            clients: random.random_range(1..4),
            pause_ms: random.random_range(60..400),
            // Small, so that members fall behind the log and get snapshots.
            flush_entries: random.random_range(10..200),
            keep_entries: random.random_range(0..50),
            schedule: faults::draw(random, members, FAULTS_MS, clocks),
            clocks,
            compacts: random.random_bool(0.5),
            grows: false,
        };
        if random.random_bool(0.25) {
            faults::draw_flip(random, members, FAULTS_MS, &mut plan.schedule);
        } else if random.random_bool(0.3) {
            plan.grows = true;
            faults::draw_membership(random, members, FAULTS_MS, &mut plan.schedule);
        }
        plan
    }
}

/// The world.
pub struct World {
    seed: u64,
    plan: Plan,
    trace: Arc<Trace>,
    network: Arc<Network>,
    members: Vec<Member>,
    operator: Operator,
    history: Arc<History>,
    leases: Arc<Leases>,
    past: Arc<Mutex<Past>>,
    /// Clients ask nothing more.
    closed: Arc<AtomicBool>,
}

/// What a run found.
pub struct Report {
    /// What is wrong; none if all checks hold.
    pub error: Option<String>,
    /// What happened.
    pub trace: String,
    /// A line about how much happened.
    pub summary: String,
}

/// Runs a seed, with files below a folder.
pub fn run(seed: u64, mistake: Option<Made>, root: &Path) -> Report {
    let mut world = World::new(seed, root);
    match mistake {
        Some(Made::Store(mistake)) => kontiki_store::fault::make(mistake),
        Some(Made::LyingDisks) => world.members.iter().for_each(|member| member.disk.lies.store(true, Ordering::SeqCst)),
        None => {}
    }
    let error = world.live().err();
    let operations = world.history.operations();
    let answered = operations.iter().filter(|operation| operation.end.is_some()).count();
    let summary = format!("{answered} of {} requests answered, revision {}", operations.len(), world.history.last_revision());
    Report { error, trace: world.trace.text(), summary }
}

impl World {
    fn new(seed: u64, root: &Path) -> Self {
        let mut random = generator(seed, 0);
        let plan = Plan::draw(&mut random);
        clock::set(0);
        let trace = Arc::new(Trace::default());
        trace.note(format_args!("{plan:?}"));
        let network = Network::new(seed, plan.latency, trace.clone());
        let member = |number: usize| {
            let purpose = 100 + u64::try_from(number).unwrap_or(u64::MAX);
            Member::new(number, Disk::new(plan.disk, generator(seed, purpose)), root)
        };
        let mut members: Vec<Member> = (0..plan.members + usize::from(plan.grows)).map(member).collect();
        for later in &mut members[plan.members..] {
            later.belongs = false;
        }
        let history = Arc::new(History::new(trace.clone()));
        Self {
            seed,
            plan,
            trace,
            network,
            members,
            operator: Operator::default(),
            history,
            leases: Arc::default(),
            past: Arc::default(),
            closed: Arc::default(),
        }
    }

    fn options(&self, member: usize) -> Options {
        let nowhere = SocketAddr::from(([0, 0, 0, 0], 0));
        let mut options = Options::new(&host(member), "".into(), nowhere, nowhere);
        let first = self.plan.members;
        let known = if member < first { first } else { member + 1 };
        options.initial_cluster = (0..known).map(|number| (host(number), format!("http://{}:1", host(number)))).collect();
        // Otherwise nothing changes before everybody has been well for five seconds.
        options.strict_reconfig_check = false;
        if member >= first {
            options.initial_cluster_state = ClusterState::Existing;
        }
        options.flush_entries = self.plan.flush_entries;
        options.keep_entries = self.plan.keep_entries;
        options.rocksdb_bytes = 1 << 20;
        options
    }

    fn start(&mut self, number: usize) -> Result<(), String> {
        if self.members[number].is_running() || !self.members[number].belongs {
            return Ok(());
        }
        let options = self.options(number);
        let clients = Clients {
            purpose: mix(self.trace.now_ms(), u64::try_from(number).unwrap_or(u64::MAX)),
            seed: self.seed,
            many: self.plan.clients,
            pause_ms: self.plan.pause_ms,
            with_leases: !self.plan.clocks,
            history: self.history.clone(),
            leases: self.leases.clone(),
            compacts: self.plan.compacts,
            past: self.past.clone(),
            trace: self.trace.clone(),
            closed: self.closed.clone(),
        };
        let trace = self.trace.clone();
        let then = move |handle: Handle| clients.begin(number, &handle);
        self.members[number].start(options, &self.network, trace, then).map_err(|error| format!("world: {error}"))
    }

    fn live(&mut self) -> Result<(), String> {
        for number in 0..self.plan.members {
            self.start(number)?;
        }
        let mut schedule = self.plan.schedule.clone().into_iter().peekable();
        while self.trace.now_ms() < FAULTS_MS.1 {
            while let Some((_, fault)) = schedule.next_if(|(at, _)| *at <= self.trace.now_ms()) {
                self.happen(&fault)?;
            }
            self.step()?;
        }
        self.heal()?;
        let calm = self.trace.now_ms() + CALM_MS;
        while self.trace.now_ms() < calm {
            self.step()?;
        }
        self.closed.store(true, Ordering::SeqCst);
        let revision = self.agree()?;
        self.check(revision)
    }

    fn step(&mut self) -> Result<(), String> {
        let now = self.trace.tick();
        clock::set(now);
        self.network.deliver();
        // Nobody is always the first.
        let first = usize::try_from(mix(self.seed, now) % 64).unwrap_or(0);
        let many = self.members.len();
        for turn in 0..many {
            self.members[(first + turn) % many].step();
        }
        self.reconfigure()
    }

    /// The operator goes on. A member that was added starts, one that hears of its removal ends.
    fn reconfigure(&mut self) -> Result<(), String> {
        if !self.plan.grows {
            return Ok(());
        }
        if let Some(Wish::Add(member)) = self.operator.step(self.seed, &self.members, &self.trace) {
            self.members[member].belongs = true;
            self.start(member)?;
        }
        let gone: Vec<usize> =
            self.members.iter().filter(|member| knows_of_removal(member)).map(|member| member.number).collect();
        for member in gone {
            self.trace.note(format_args!("member {member} knows that it was removed"));
            self.members[member].belongs = false;
            self.members[member].power_cut(&self.network).map_err(|error| format!("world: {error}"))?;
        }
        Ok(())
    }

    fn happen(&mut self, fault: &Fault) -> Result<(), String> {
        self.trace.note(format_args!("fault {fault:?}"));
        match *fault {
            Fault::PowerCut(member) => {
                self.members[member].power_cut(&self.network).map_err(|error| format!("world: {error}"))?;
                self.members[member].disk.broken.store(false, Ordering::SeqCst);
            }
            Fault::Start(member) => self.start(member)?,
            Fault::Cut(from, to) => self.network.set_cut(from, to, true),
            Fault::Mend(from, to) => self.network.set_cut(from, to, false),
            Fault::Reset(one, other) => self.network.reset(one, other),
            Fault::Pause(member) => self.members[member].paused = true,
            Fault::Resume(member) => self.members[member].paused = false,
            Fault::Stall(member, time) => *self.members[member].disk.stall_ms.lock() = time,
            Fault::Drift(member, speed) => self.members[member].speed = speed,
            Fault::Add(member) => self.operator.wishes.push(Wish::Add(member)),
            Fault::Remove(member) => self.operator.wishes.push(Wish::Remove(member)),
            Fault::Flip(member, number) => {
                self.members[member].damaged = true;
                self.members[member].disk.flip(number);
            }
            Fault::Break(member) => self.members[member].disk.broken.store(true, Ordering::SeqCst),
        }
        Ok(())
    }

    /// Everything is whole again. A member whose disk failed is started again.
    fn heal(&mut self) -> Result<(), String> {
        self.trace.note(format_args!("everything heals"));
        self.network.mend();
        for number in 0..self.members.len() {
            let was_broken = self.members[number].disk.broken.load(Ordering::SeqCst);
            // One that joined while nobody answered is started again as well.
            if was_broken || number >= self.plan.members && self.members[number].refused().is_some() {
                self.happen(&Fault::PowerCut(number))?;
            }
            self.members[number].paused = false;
            self.members[number].speed = 1000;
            *self.members[number].disk.stall_ms.lock() = 0;
            self.start(number)?;
        }
        Ok(())
    }

    /// Waits until all members hold the same and have told their watchers.
    fn agree(&mut self) -> Result<i64, String> {
        let deadline = self.trace.now_ms() + AGREE_MS;
        while self.trace.now_ms() < deadline {
            self.step()?;
            let living = || self.members.iter().filter(|member| member.belongs && !member.gave_up());
            let revisions: Vec<i64> = living().filter_map(|member| Some(member.handle()?.revision())).collect();
            let told = living().map(|member| member.watched.lock().messages.last().map_or(1, |last| last.revision));
            let highest = revisions.iter().copied().max().unwrap_or(1).max(self.history.last_revision());
            let all = revisions.len() == living().count() && revisions.iter().all(|revision| *revision == highest);
            if all && self.operator.wishes.is_empty() && told.into_iter().all(|told| told == highest) {
                return Ok(highest);
            }
        }
        let refused = self.members.iter().find_map(|member| Some((member.number, member.refused()?)));
        if let Some((number, refused)) = refused {
            return Err(format!("start: member {number} does not start: {refused}"));
        }
        Err(format!("agreement: {AGREE_MS} ms after everything was whole again, the members have not agreed"))
    }

    fn check(&mut self, revision: i64) -> Result<(), String> {
        let operations = self.history.operations();
        linearizability::check(&operations).map_err(|error| format!("linearizability: {error}"))?;
        let watched: Vec<_> = self.members.iter().map(|member| member.watched.lock().clone()).collect();
        let told = watched.iter().map(watch::check).collect::<Result<Vec<_>, _>>()?;
        let past = self.past.lock().clone();
        let truth = watch::merge(&told);
        for (watched, told) in watched.iter().zip(&told) {
            watch::check_against(watched, told, &truth, past.compacted)?;
        }
        let states = watch::check_history(&truth, &told, past.compacted)?;
        check::past::check(&past, &states)?;
        check::leases::check(&self.leases.lock(), &watched)?;
        self.check_hashes(revision)
    }

    fn check_hashes(&mut self, revision: i64) -> Result<(), String> {
        let hashes: Arc<Mutex<Vec<Option<u32>>>> = Arc::new(Mutex::new(vec![]));
        let living: Vec<&Member> = self.members.iter().filter(|member| member.belongs && !member.gave_up()).collect();
        let many = living.len();
        for member in living {
            let Some(handle) = member.handle() else { continue };
            let hashes = hashes.clone();
            member.spawn(async move {
                let hash = handle.hash_kv(revision).await.ok().map(|answer| answer.hash);
                hashes.lock().push(hash);
            });
        }
        for _ in 0..10 {
            self.step()?;
        }
        let hashes = hashes.lock().clone();
        if hashes.len() == many && hashes.iter().all(|hash| hash.is_some() && *hash == hashes[0]) {
            return Ok(());
        }
        Err(format!("hash_kv: the members differ: {hashes:?}"))
    }
}

/// The clients of one run of a member.
struct Clients {
    seed: u64,
    purpose: u64,
    many: u64,
    pause_ms: u64,
    with_leases: bool,
    history: Arc<History>,
    leases: Arc<Leases>,
    compacts: bool,
    past: Arc<Mutex<Past>>,
    trace: Arc<Trace>,
    closed: Arc<AtomicBool>,
}

impl Clients {
    fn begin(self, member: usize, handle: &Handle) {
        let random = |client| generator(self.seed, mix(self.purpose, client));
        let now = self.trace.now_ms();
        for client in 0..self.many {
            let name = format!("client {client} of member {member}, begun at {now}");
            let client = workload::client(name, handle.clone(), self.history.clone(), random(client), self.pause_ms);
            tokio::spawn(until(self.closed.clone(), client));
        }
        if self.with_leases {
            let name = format!("holder of leases of member {member}, begun at {now}");
            let (history, leases, trace) = (self.history.clone(), self.leases.clone(), self.trace.clone());
            let client = leases::client(name, handle.clone(), history, leases, trace, random(1 << 32));
            tokio::spawn(until(self.closed.clone(), client));
        }
        let reader = past::reader(handle.clone(), self.past.clone(), self.trace.clone(), random(1 << 33));
        tokio::spawn(until(self.closed.clone(), reader));
        if self.compacts {
            let compactor = past::compactor(handle.clone(), self.past.clone(), self.trace.clone(), random(1 << 34));
            tokio::spawn(until(self.closed.clone(), compactor));
        }
    }
}

/// Until clients ask nothing more.
async fn until(closed: Arc<AtomicBool>, client: impl Future<Output = ()>) {
    let end = async {
        while !closed.load(Ordering::SeqCst) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::select! {
        biased;
        () = end => {}
        () = client => {}
    }
}
